"""Places where a test can make this process die, freeze or fail: `crashpoint("dispatch.after_claim")`.

They do nothing unless the setting JOBMILL_FAULTS arms them, which is for tests only. Its form is
`name[:n][=kill|stop|raise]`, several comma-separated: at the n-th passage (default: the first) the process
gets SIGKILL (the default) or SIGSTOP, or the place raises CrashPointReached. The sentence of each point says
what is true there. `tests/faults/README.md` shows how they are used.
"""

import os
import re
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from settings import BadSetting

log = structlog.get_logger(__name__)

POINTS = {
    "submit.before_commit": "A submission is checked and nothing of it is recorded.",
    "submit.after_commit": "A job is recorded and its 202 is not sent.",
    "dispatch.after_claim": "Jobs are claimed and none of their messages is published.",
    "dispatch.mid_batch": "Messages are with the broker and this confirm of one or more of them is not taken in.",
    "dispatch.after_confirms": "The broker has confirmed what it will, and nothing is released.",
    "worker.before_start": "A message is taken and its jobs are not started.",
    "worker.after_start": "A job's start is committed and nothing is done with it.",
    "worker.mid_handler": "A handler has saved a checkpoint, and goes on only now.",
    "worker.after_handler": "The handler is done and nothing of it is recorded.",
    "worker.in_commit": "The handler's own writes and its job's success stand in one transaction; no COMMIT is sent.",
    "worker.after_commit": "All endings of a message are recorded and it is not acknowledged.",
    "retry.before_commit": "A retry is decided and written without its history; no COMMIT is sent.",
    "bury.before_commit": "A job is made a dead letter without its history; no COMMIT is sent.",
    "rescue.before_commit": "Jobs are taken from a dead worker without their history; no COMMIT is sent.",
    "reconcile.after_release": "Claims whose messages were lost are released, and nobody is told.",
    "collect.after_commit": "What RabbitMQ could not deliver is kept or released, and none of it is acknowledged.",
    "redrive.before_commit": "Some of a redrive's letters are replayed and counted; no COMMIT is sent.",
    "webhook.after_call": "A receiver has answered and nothing of it is recorded.",
    "prune.after_archive": "A batch of letters is in the archive; none is deleted.",
    "prune.before_commit": "A batch of final jobs is deleted; no COMMIT is sent.",
}
"""Every point that there is, and what is true where it stands."""

_FORM = re.compile(r"(?P<name>[a-z_.]+)(:(?P<passage>[1-9][0-9]{0,8}))?(=(?P<action>[a-z]+))?")


class CrashPointReached(Exception):  # noqa: N818
    """A crash point that was armed with `raise` was reached; never seen unless a test asked for it."""


def _raise(name: str) -> None:
    raise CrashPointReached(f"The crash point {name} was reached, as JOBMILL_FAULTS asks for.")


# To this very thread: a signal to the process may be delivered by another one, while this one goes on.
_ACTIONS: dict[str, Callable[[str], None]] = {
    "kill": lambda _name: signal.pthread_kill(threading.get_ident(), signal.SIGKILL),
    "stop": lambda _name: signal.pthread_kill(threading.get_ident(), signal.SIGSTOP),
    "raise": _raise,
}


@dataclass(frozen=True)
class Fault:
    """One armed point: what happens, and at which passage."""

    name: str
    passage: int
    action: str


@dataclass(frozen=True)
class _Armed:
    fault: Fault
    passed: Callable[[], int]


_armed: dict[str, _Armed] = {}


def crashpoint(name: str) -> None:
    """Do nothing; or, when armed and passed often enough, what JOBMILL_FAULTS says."""
    if _armed:
        _pass(name)


def arm(faults: str) -> None:
    """Arm what JOBMILL_FAULTS says, and nothing else. Raises BadSetting.

    Processes forked afterwards share the count, so that a point strikes once and not in each replacement.
    """
    wanted = parse(faults)
    _armed.clear()
    _armed.update({fault.name: _Armed(fault, _shared_count()) for fault in wanted})
    if wanted:
        log.warning("crashpoints_armed", faults=faults)


def parse(faults: str) -> list[Fault]:
    """The faults that a value of JOBMILL_FAULTS names; empty for none. Raises BadSetting."""
    named = [_fault(part.strip()) for part in faults.split(",")] if faults.strip() else []
    if len({fault.name for fault in named}) < len(named):
        raise _bad("it names a point twice")
    return named


def _fault(text: str) -> Fault:
    form = _FORM.fullmatch(text)
    if form is None:
        raise _bad(f"{text!r} is not of the form name[:n][=kill|stop|raise]")
    fault = Fault(form["name"], int(form["passage"] or 1), form["action"] or "kill")
    if fault.name not in POINTS:
        raise _bad(f"there is no crash point {fault.name!r}, but {', '.join(POINTS)}")
    if fault.action not in _ACTIONS:
        raise _bad(f"{fault.action!r} is none of {', '.join(_ACTIONS)}")
    return fault


def _bad(why: str) -> BadSetting:
    return BadSetting(f"JOBMILL_FAULTS is wrong: {why}. A right one: dispatch.after_claim:3=kill")


def _pass(name: str) -> None:
    armed = _armed.get(name)
    if armed is not None and armed.passed() == armed.fault.passage:
        log.warning("crashpoint_reached", point=name, action=armed.fault.action, pid=os.getpid())
        _ACTIONS[armed.fault.action](name)


def _shared_count() -> Callable[[], int]:
    import multiprocessing  # nothing else here needs it

    count = multiprocessing.Value("q", 0)

    def passed() -> int:
        with count.get_lock():
            count.value += 1
            return int(count.value)

    return passed
