"""`jobmill secret-key`: which secret key the installation uses, directly on the database."""

import click
from sqlalchemy.orm import Session

import settings
from cli import asking, audited, output
from cli.database import open_database
from cli.failures import EXIT_CODES
from jobs import secret_key
from settings import Settings


@click.group("secret-key", epilog=EXIT_CODES)
def group() -> None:
    """Change the secret key of the installation, directly on the database."""


@group.command()
@asking.yes_option
def adopt(*, yes: bool) -> None:
    """Let JOBMILL_SECRET_KEY, as it is set here, be the installation's; no process with another one starts any more.

    Whatever was kept under the key before it is worthless: API keys, tokens, and the secrets of webhooks.
    """
    chosen = settings.load()
    asking.ask("API keys and webhook secrets that were made under another key become worthless.", yes=yes)
    with open_database(chosen) as database:
        changed = database.run(lambda session: _adopt(session, chosen))
    if changed:
        output.note("It is the installation's key now. Start every process with it, and rotate the webhooks' secrets.")
    else:
        output.note("It was the installation's key already.")


def _adopt(session: Session, chosen: Settings) -> bool:
    changed = secret_key.adopt(session, chosen)
    if changed:
        audited.tell(session, "adopt_secret_key", "secret-key", "installation")
    return changed
