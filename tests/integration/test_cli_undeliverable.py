"""`jobmill undeliverable` and the client's methods of the same, against a real server."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from jobmill_client import Client, NotFound
from models.database import Database
from models.ids import new_id
from tests.commanding import Run, commanding, served
from tests.doors import Doors
from tests.undelivered import keep


@pytest.fixture
def reached(sqlite_database: Database) -> Iterator[tuple[str, str]]:
    """A server's address, and a platform key to it."""
    caller = Doors(sqlite_database).caller(tenant=None)
    with served(caller) as url:
        yield url, caller.token or ""


@pytest.fixture
def run(reached: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    return partial(commanding(monkeypatch, *reached), "undeliverable")


def test_a_list_has_a_line_for_each(run: Run, sqlite_database: Database):
    message_id, other = keep(sqlite_database), keep(sqlite_database, queue="media")
    lines = run("list").stdout.splitlines()
    assert lines[0].split() == ["ID", "QUEUE", "REASON", "BODY_BYTES", "COLLECTED_AT", "DETAIL"]
    assert [line.split()[0] for line in lines[1:]] == [str(other), str(message_id)]
    assert [line.split()[0] for line in run("list", "--queue", "media").stdout.splitlines()[1:]] == [str(other)]
    assert json.loads(run("list", "--reason", "undecodable", "--json").stdout)["data"] == []


def test_one_is_shown_with_its_body_and_nothing_of_it_reaches_the_terminal_raw(run: Run, sqlite_database: Database):
    message_id = keep(sqlite_database, body=b"\x1b[31mred\nline two", body_bytes=100_000)
    shown = run("show", str(message_id)).stdout
    assert "\x1b" not in shown
    assert "line two" in shown
    assert "100000, of which the first 64 KiB are kept" in shown
    assert "mailer" in shown


def test_a_discard_says_how_many_and_asks(run: Run, sqlite_database: Database):
    kept = [str(keep(sqlite_database)) for _ in range(2)]
    unattended = run("discard", *kept)
    assert unattended.exit_code == 1
    assert (
        "This discards 2 undeliverable messages for good. Nobody is here to be asked: add --yes." in unattended.stderr
    )
    assert "Nothing was done." in run("discard", *kept, answer="n\n").stderr
    assert run("discard", kept[0], answer="y\n").exit_code == 0
    done = run("discard", kept[0], kept[1], "--yes")
    assert done.exit_code == 1
    assert f"{kept[1]} is discarded." in done.stderr
    assert "1 of 2 were left as they are." in done.stderr
    nothing = run("list")
    assert len(nothing.stdout.splitlines()) <= 1
    assert "Only a platform key sees any" in nothing.stderr


def test_the_client_lists_reads_and_discards_them(reached: tuple[str, str], sqlite_database: Database):
    message_id = keep(sqlite_database, body=b"\xff\x00")
    with Client(reached[0], key=reached[1]) as client:
        (listed,) = client.undeliverable(reason="foreign")
        assert listed.id == str(message_id)
        assert client.undeliverable_message(message_id).content() == b"\xff\x00"
        client.discard_undeliverable(message_id)
        assert list(client.undeliverable()) == []
        with pytest.raises(NotFound):
            client.discard_undeliverable(new_id())
