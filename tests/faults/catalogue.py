"""The catalogue of faults: every one that Jobmill must survive, and the tests that provoke it.

A test claims a fault by `@pytest.mark.fault("<name>", "<how it is provoked>")`, wherever it stands below tests/. The
marks are read from the source, so that the table in docs/reliability.md is made without running anything.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent

FAULTS: dict[str, dict[str, str]] = {
    "Killed (-9) at each point": {
        "killed-submit-before-commit": "API, a submission before its commit",
        "killed-submit-after-commit": "API, a submission after its commit, before the 202",
        "killed-dispatch-after-claim": "dispatcher, after its claim",
        "killed-dispatch-mid-batch": "dispatcher, in the middle of a batch",
        "killed-dispatch-after-confirms": "dispatcher, after the confirms",
        "killed-worker-before-start": "worker, before the start",
        "killed-worker-after-start": "worker, after the start",
        "killed-worker-mid-handler": "worker, in the handler",
        "killed-worker-after-handler": "worker, after the handler",
        "killed-worker-in-commit": "worker, in the commit",
        "killed-worker-before-acknowledgement": "worker, after the commit and before the acknowledgement",
        "killed-worker-at-retry": "worker, between a retry's decision and its commit",
        "killed-worker-at-bury": "worker, at the move to dead",
        "killed-mid-redrive": "a redrive, in the middle",
        "killed-webhook-unrecorded": "a webhook sent and not recorded",
        "killed-mid-rescue": "dispatcher, in the middle of a rescue",
        "killed-mid-collect": "dispatcher, between keeping an undeliverable message and its acknowledgement",
        "killed-at-random": "everything, at random, for two minutes",
    },
    "Processes": {
        "zombie": "a worker past its lease that thaws and commits",
        "handler-never-returns": "a handler that never returns",
        "handler-exits": "a handler that exits the process",
        "handler-segfaults": "a handler that crashes the process",
        "handler-exhausts-memory": "a handler that exhausts the memory",
        "handler-holds-gil": "a handler that holds the interpreter's lock",
        "handler-raises-baseexception": "a handler that raises BaseException",
        "child-dies": "one child of a worker dies",
        "parent-dies": "a worker's parent dies",
        "sigterm-enough-grace": "SIGTERM with enough grace",
        "sigterm-little-grace": "SIGTERM with too little grace",
        "sigterm-twice": "SIGTERM twice",
        "sigterm-at-boot": "SIGTERM at boot",
        "rolling-restart": "API, workers and dispatcher restarted one after the other under load",
        "fork-after-engine": "a fork after the database was opened",
    },
    "Dispatcher": {
        "dispatcher-dead-60s": "none for a minute",
        "dispatcher-leader-killed": "the leader killed, with a standby",
        "dispatchers-two": "two at once",
        "dispatchers-five": "five at once",
        "dispatcher-frozen-leader": "the leader frozen",
        "dispatcher-million-queued": "a million queued, and an empty broker",
        "dispatcher-unfair-tenants": "one tenant with a million jobs, another with one",
    },
    "RabbitMQ": {
        "rabbitmq-restart": "restarted under load",
        "rabbitmq-killed": "killed (-9)",
        "rabbitmq-wiped": "wiped",
        "rabbitmq-queue-deleted": "one queue deleted",
        "rabbitmq-blocked": "publishers blocked by an alarm",
        "rabbitmq-frozen": "frozen",
        "rabbitmq-half-open": "connections half open",
        "rabbitmq-slow-link": "a slow and lossy link",
        "rabbitmq-consumer-timeout": "its consumer_timeout reached",
        "rabbitmq-delivery-limit": "its delivery limit reached",
        "rabbitmq-duplicates": "the same message 100 times",
        "rabbitmq-malformed": "every malformed message",
        "rabbitmq-arguments": "queue arguments changed",
        "rabbitmq-node-of-three": "one node of three killed",
    },
    "PostgreSQL and SQLite": {
        "postgresql-restart": "restarted in the middle of transactions",
        "postgresql-down-60s": "down for a minute",
        "postgresql-backends-killed": "its backends killed twice a second",
        "postgresql-pool-exhausted": "the pool exhausted",
        "postgresql-error-classes": "each class of errors",
        "postgresql-old-transaction": "a transaction held open for the whole run",
        "postgresql-disk-full": "its disk full",
        "postgresql-migration": "a migration under load, with old and new code",
        "postgresql-failover": "the primary killed, its standby promoted",
        "sqlite-killed": "SQLite killed in a commit",
    },
    "Redis": {
        "redis-down": "down",
        "redis-frozen": "frozen",
        "redis-emptied": "restarted empty",
    },
    "Receivers": {
        "receiver-slow": "slow",
        "receiver-dripping": "dripping a byte at a time",
        "receiver-huge": "answering without end",
        "receiver-redirecting": "redirecting",
        "receiver-rebinding": "a name that changes its address",
        "receiver-resetting": "resetting connections",
        "receiver-tls": "TLS errors",
        "receiver-410": "410",
        "receiver-429": "429",
        "receivers-dead": "a thousand dead at once",
    },
    "Clients": {
        "client-identical": "50 identical submissions at once",
        "client-short-body": "a body cut short",
        "client-disconnects": "a disconnect before the answer",
    },
}


CHECKS = {"check", "judge"}
"""What looks whether the invariants hold, in invariants.py."""
LONG, LONGER = "long", "longer in `make faults`"


UNCHECKED = {
    "receiver-rebinding": "no name server of ours could change its answer between two looks; the guard's resolver does",
}
"""Faults whose tests start no installation that could be looked at, and why."""


@dataclass(frozen=True)
class Claim:
    """A test that provokes a fault; `test` is its path below tests/ and its name.

    `when` it runs: always, where nothing is told; LONG; or LONGER, where some of its cases are.
    """

    fault: str
    provoked: str
    test: str
    when: str
    checked: bool
    """Whether it looks at the end whether the invariants hold."""


def names() -> set[str]:
    """Every fault in the catalogue."""
    return {name for group in FAULTS.values() for name in group}


def claims(tests: Path = TESTS) -> list[Claim]:
    """Every claim below `tests`, by the place of its test."""
    helpers = _calls(ast.parse(path.read_text(encoding="utf-8")) for path in HERE.glob("*.py"))
    return [claim for path in sorted(tests.rglob("test_*.py")) for claim in _claims_in(path, tests, helpers)]


def _claims_in(path: Path, tests: Path, helpers: Mapping[str, set[str]]) -> Iterator[Claim]:
    module = ast.parse(path.read_text(encoding="utf-8"))
    calls = {**helpers, **_calls([module])}
    for function in (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)):
        test = f"{path.relative_to(tests).as_posix()}::{function.name}"
        for mark in (mark for mark in function.decorator_list if isinstance(mark, ast.Call)):
            if ast.unparse(mark.func) == "pytest.mark.fault":
                fault, provoked = (_text(argument, module) for argument in mark.args)
                checked = not CHECKS.isdisjoint(_reached(function.name, calls))
                yield Claim(fault, provoked, test, _when(function, module), checked)


def _when(function: ast.FunctionDef, module: ast.Module) -> str:
    marks = [ast.unparse(mark) for mark in function.decorator_list]
    if "pytest.mark.long" in marks or "mark.long" in _assigned("pytestmark", module):
        return LONG
    cases = [node.id for mark in function.decorator_list for node in ast.walk(mark) if isinstance(node, ast.Name)]
    return (
        LONGER if any("mark.long" in words for words in (*marks, *(_assigned(name, module) for name in cases))) else ""
    )


def _assigned(name: str, module: ast.Module) -> str:
    """What the module assigns to a name, as it is written there; nothing if it does not."""
    values = (node.value for node in module.body if isinstance(node, ast.Assign) and _is_to(node, name))
    return " ".join(map(ast.unparse, values))


def _is_to(node: ast.Assign, name: str) -> bool:
    return ast.unparse(node.targets[0]) == name


def _calls(modules: Iterable[ast.Module]) -> dict[str, set[str]]:
    """Of each function, by its name alone: the names of what it calls."""
    functions = (node for module in modules for node in ast.walk(module) if isinstance(node, ast.FunctionDef))
    return {
        function.name: {
            ast.unparse(call.func).rpartition(".")[2] for call in ast.walk(function) if isinstance(call, ast.Call)
        }
        for function in functions
    }


def _reached(name: str, calls: Mapping[str, set[str]]) -> set[str]:
    """Whatever a function calls, and what that calls."""
    reached, following = set[str](), {name}
    while following:
        reached |= following
        following = {called for one in following for called in calls.get(one, ())} - reached
    return reached


def _text(argument: ast.expr, module: ast.Module) -> str:
    """A text that is written there, or the module's constant of that name."""
    if isinstance(argument, ast.Name):
        return str(ast.literal_eval(_assigned(argument.id, module)))
    return str(ast.literal_eval(argument))


if __name__ == "__main__":
    # What `make faults` runs besides this folder.
    elsewhere = {f"tests/{claim.test}" for claim in claims() if not claim.test.startswith(f"{HERE.name}/")}
    sys.stdout.write(" ".join(sorted(elsewhere)) + "\n")
