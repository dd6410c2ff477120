"""Only the edge commits: whoever else did would tear a move from its history."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EDGE = ROOT / "models" / "database.py"
FOLDERS = ("models", "jobs", "workers", "api", "cli")
BOUNDARIES = {"commit", "begin", "rollback", "autocommit"}
"""What opens or ends a transaction; `begin_nested` is a savepoint within one and is free to all."""

# Alembic's own transaction, and NOTIFY on a connection apart: neither holds a job. A handler's desk ends the
# transaction that it opened through the edge.
EXEMPT = {
    (ROOT / "workers" / "recorder.py", "commit"),
    (ROOT / "models" / "migrate.py", "begin"),
    (ROOT / "models" / "doorbell.py", "autocommit"),
}


def _uses(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in BOUNDARIES:
            yield node.attr


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_but_the_edge_begins_or_ends_a_transaction(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    found = {(path, use) for path in files if path != EDGE for use in _uses(path.read_text())}

    assert files
    assert found - EXEMPT == set()


def test_the_edge_itself_is_seen() -> None:
    assert "begin" in set(_uses(EDGE.read_text()))
    assert set(_uses("session.commit()")) == {"commit"}
