"""How a command ends when it does not end well: the exit codes, and one clear line instead of a traceback.

Failure          anything that is told in words; exit code by `exit_code`
  Refused        the server, or the database, says no
  Unreachable    no answer, or a 5xx
  TimedOut       a wait ended before the job did
  Interrupted    Ctrl-C
"""

from enum import IntEnum
from typing import IO, Any

import click

from cli.visible import visible


class Exit(IntEnum):
    """What the exit code says. `docs/cli.md` and the help list these."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    TIMED_OUT = 4
    INTERRUPTED = 130


EXIT_CODES = """\b
Exit codes:
    0  done
    1  the job did not succeed, what was asked was refused, or something is wrong
    2  wrong usage or configuration
    3  the server or database cannot be reached, or answers 5xx
    4  a wait ran out of time
  130  Ctrl-C
"""


class Failure(click.ClickException):
    """A command could not do what was asked; the message says what happened and what to do."""

    exit_code = Exit.USAGE

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message on stderr."""
        lines = (visible(line) for line in self.message.splitlines())
        click.echo("Error: " + "\n".join(lines), file=file, err=True)


class Refused(Failure):
    """The answer was no."""

    exit_code = Exit.REFUSED


class Unreachable(Failure):
    """No answer came, or one that says the server is broken."""

    exit_code = Exit.UNREACHABLE


class TimedOut(Failure):
    """The job had not ended when the wait did."""

    exit_code = Exit.TIMED_OUT


class Interrupted(Failure):
    """Somebody pressed Ctrl-C."""

    exit_code = Exit.INTERRUPTED


# By name, so that telling an error imports no module that the command did not need.
_EXPECTED: dict[str, type[Failure]] = {
    "settings.BadSetting": Failure,
    "models.errors.SchemaMismatch": Failure,
    "models.database.AlreadyOpen": Failure,
    "jobs.api_keys.BootstrapKeyRefused": Failure,
    "jobs.registry.BadJobType": Failure,
    "jobs.secret_key.WrongSecretKey": Failure,
    "workers.drift.WrongQueue": Failure,
    "workers.mending.CannotMend": Refused,
    "workers.mending.BrokerAway": Unreachable,
    "jobmill_client.errors.JobmillError": Failure,
    "models.errors.Unavailable": Unreachable,
    "models.errors.Unstorable": Refused,
}


def told(error: BaseException) -> Failure | None:
    """The failure that tells an expected error of the other folders; None if the error is a bug."""
    for kind in type(error).__mro__:
        failure = _EXPECTED.get(f"{kind.__module__}.{kind.__qualname__}")
        if failure is not None:
            return failure(" ".join(filter(None, [str(error), _cause(error)])))
    return None


def _cause(error: BaseException) -> str:
    # What the driver said names host and port, never the password.
    said = str(getattr(error.__cause__, "orig", "")).splitlines()
    return f"({said[0]})" if said else ""
