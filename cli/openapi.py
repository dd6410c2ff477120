"""`jobmill openapi`: the description of the HTTP API, for tools that make clients and tests of it."""

import click

import settings
from cli import compose, output
from cli.failures import EXIT_CODES


@click.command(epilog=EXIT_CODES)
def openapi() -> None:
    """Print the OpenAPI 3.1 document.

    It needs no server and no database, and is the one that a server with the same JOBMILL_JOBS serves at /openapi.json.
    """
    from api.app import describe

    output.made_document(describe(compose.registry(settings.load())))
