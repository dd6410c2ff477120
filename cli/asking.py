"""Commands that change several things: they say how many and ask first, and then tell what became of each."""

import sys
from collections.abc import Callable, Sequence
from uuid import UUID

import click

from cli import output
from cli.failures import Refused
from cli.problems import describe
from jobmill_client.answers import Answer
from jobmill_client.errors import ApiError, ServerError

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def ask(what: str, *, yes: bool) -> None:
    """Say what will be done, and go on if that is right. Raises Refused."""
    if yes:
        return
    if not is_attended():
        raise Refused(f"{what} Nobody is here to be asked: add --yes.")
    if not click.confirm(f"{what} Go on?", err=True):
        raise Refused("Nothing was done.")


def is_attended() -> bool:
    """Whether somebody can answer."""
    return sys.stdin.isatty()


def each(ids: Sequence[UUID], act: Callable[[UUID], Answer | None], *, as_json: bool, now: str | None = None) -> None:
    """Act on each, whatever became of the one before, and say what it is `now`: else, what state it was answered with.

    Raises Refused at the end if one was refused.
    """
    refused = 0
    for one in ids:
        try:
            answer = act(one)
        except ServerError:
            raise
        except ApiError as error:
            refused += 1
            output.note(f"{one} is left as it is:")
            for line in describe(error).splitlines():
                output.note(f"  {line}")
        else:
            if as_json and answer is not None:
                output.document(answer.body)
            else:
                output.note(f"{one} is {now or (answer.document.get('state') if answer else None)}.")
    if refused:
        raise Refused(f"{refused} of {len(ids)} were left as they are.")
