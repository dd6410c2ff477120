"""`jobmill redrive`: dead letters replayed or discarded by the thousand, at a pace, over HTTP."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

import click

from cli import output
from cli.asking import ask, yes_option
from cli.failures import EXIT_CODES, Interrupted, Refused, TimedOut
from cli.lists import show_list
from cli.options import DEAD_FILTERS, dead_filters, listed, over_http
from cli.parameters import Seconds
from cli.redrive_view import COLUMNS, details, line, progress, row, sentence
from jobmill_client.answers import Answer
from jobmill_client.connection import Connection

PATH = "/v1/redrives"
LOOK_SECONDS = 1.0
LOWEST = -100
WATCHED_SECONDS = 24 * 3600.0
OPEN = {"running", "paused"}

redrive_id = click.argument("redrive_id", metavar="ID", type=click.UUID)
watch_seconds = click.option(
    "--timeout-wait",
    "seconds",
    type=Seconds(),
    default=WATCHED_SECONDS,
    show_default=True,
    help="Watch no longer; `inf` watches for ever.",
)


@click.group(epilog=EXIT_CODES)
def redrive() -> None:
    """Replay or discard dead letters by the thousand, at a pace."""


@redrive.command()
@dead_filters
@click.option("--discard", "action", flag_value="discard", help="Give them up for good instead.")
@click.option("--rate", type=float, default=50, show_default=True, help="Letters a second.")
@click.option("--ramp", type=float, default=0, show_default=True, help="Seconds until that rate is reached.")
@click.option(
    "--abort-ratio",
    type=float,
    default=0.5,
    show_default=True,
    help="Abort when this share of the last answers are deaths; 0: never.",
)
@click.option("--priority", type=int, help="At which replayed jobs run.  [default: -100]")
@click.option("--keep-priority", is_flag=True, help="Each at its own instead.")
@click.option("--dry-run", is_flag=True, help="Only tell what matches.")
@click.option("--watch", "watches", is_flag=True, help="Watch it to its end.")
@yes_option
@over_http
def start(
    server: Connection, *, watches: bool, dry_run: bool, yes: bool, as_json: bool, keep_priority: bool, **asked: Any
) -> None:
    """Replay the dead letters that match now. Without a filter: all there are."""
    if keep_priority and asked["priority"] is not None:
        raise click.UsageError("Give --priority or --keep-priority, not both.")
    body = _body(asked, keep_priority=keep_priority)
    if dry_run:
        _preview(server, body, as_json=as_json)
        return
    if not yes:
        found = server.post(PATH, {**body, "dry_run": True}, repeatable=True).document
        ask(sentence(body, found), yes=False)
    answer = server.post(PATH, body, repeatable=False)
    made = UUID(answer.document["id"])
    if not answer.document["matched"]:
        output.note("No dead letter matches; the redrive has nothing to do.")
    if watches:
        output.note(f"The redrive is {made}.")
        _watch(server, made, WATCHED_SECONDS, as_json=as_json)
    else:
        _show(answer, as_json=as_json)


@redrive.command("list")
@listed
@over_http
def list_(server: Connection, *, limit: int, everything: bool, as_json: bool) -> None:
    """List redrives, newest first."""
    show_list(server, PATH, {"limit": limit}, output.Table(*COLUMNS), row, everything=everything, as_json=as_json)


@redrive.command()
@redrive_id
@over_http
def show(server: Connection, redrive_id: UUID, *, as_json: bool) -> None:
    """Show a redrive, and how far it is."""
    _show(server.get(f"{PATH}/{redrive_id}"), as_json=as_json)


@redrive.command()
@redrive_id
@watch_seconds
@over_http
def watch(server: Connection, redrive_id: UUID, *, seconds: float, as_json: bool) -> None:
    """Watch a redrive to its end; exit code 1 unless it succeeded."""
    _watch(server, redrive_id, seconds, as_json=as_json)


def _steering(name: str, words: str) -> Callable[..., None]:
    def steer(server: Connection, redrive_id: UUID, *, as_json: bool) -> None:
        _tell(server.post(f"{PATH}/{redrive_id}/{name}", repeatable=True), as_json=as_json)

    steer.__doc__ = words
    steer.__name__ = name
    return redrive.command(name)(redrive_id(over_http(steer)))


_steering("pause", "Have it handle no further letter until it is resumed.")
_steering("resume", "Have a paused redrive go on.")


@redrive.command()
@redrive_id
@yes_option
@over_http
def cancel(server: Connection, redrive_id: UUID, *, yes: bool, as_json: bool) -> None:
    """End a redrive; letters that it replayed stay replayed."""
    if not yes:
        found = server.get(f"{PATH}/{redrive_id}").document
        ask(f"This ends the redrive with {found.get('waiting')} letters whose turn has not come.", yes=False)
    _tell(server.post(f"{PATH}/{redrive_id}/cancel", repeatable=True), as_json=as_json)


def _body(asked: Mapping[str, Any], *, keep_priority: bool) -> dict[str, Any]:
    return {
        "action": asked["action"] or "replay",
        "filter": {name: asked[name] for name in DEAD_FILTERS if asked[name] is not None},
        "rate_per_second": asked["rate"],
        "ramp_seconds": asked["ramp"],
        "abort_when_failure_ratio": asked["abort_ratio"] or None,
        "priority": None if keep_priority else LOWEST if asked["priority"] is None else asked["priority"],
    }


def _preview(server: Connection, body: Mapping[str, Any], *, as_json: bool) -> None:
    answer = server.post(PATH, {**body, "dry_run": True}, repeatable=True)
    if as_json:
        output.document(answer.body)
        return
    output.details([("matched", answer.document["matched"])])
    groups = answer.document["groups"]
    if groups:
        columns = ("group", "count", "error_type", "place", "message")
        output.Table(*columns).show([group.get(column) for column in columns] for group in groups)


def _watch(server: Connection, redrive_id: UUID, seconds: float, *, as_json: bool) -> None:
    """Report until it ends. Raises Refused if it did not succeed, TimedOut, Interrupted."""
    try:
        with progress() as report:
            for answer in _looks(server, redrive_id, time.monotonic() + seconds):
                report(answer.document)
    except KeyboardInterrupt:
        again = f"jobmill redrive watch {redrive_id}"
        raise Interrupted(f"Stopped watching; the redrive goes on. Watch again with: {again}") from None
    _show(answer, as_json=as_json)
    state = answer.document.get("state")
    if state in OPEN:
        raise TimedOut(f"The redrive is still {state}.")
    if state != "succeeded":
        raise Refused(f"The redrive was {state}. {answer.document.get('reason') or ''}".strip())


def _looks(server: Connection, redrive_id: UUID, deadline: float) -> Iterator[Answer]:
    """The redrive every second, to its end or the deadline."""
    while True:
        answer = server.get(f"{PATH}/{redrive_id}")
        yield answer
        left = deadline - time.monotonic()
        if answer.document.get("state") not in OPEN or left <= 0:
            return
        time.sleep(min(LOOK_SECONDS, left))


def _tell(answer: Answer, *, as_json: bool) -> None:
    """Say how it is now."""
    if as_json:
        output.document(answer.body)
    else:
        output.note(f"{answer.document.get('id')} is {line(answer.document)}.")


def _show(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        output.document(answer.body)
    else:
        output.details(details(answer.document))
