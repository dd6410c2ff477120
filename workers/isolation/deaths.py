"""Of what a handler's process died, and what that makes of the attempt."""

import signal

from jobs.outcomes import Failed, Failure

TYPE = "HandlerProcessDied"
EXIT_OUT_OF_MEMORY = 86
"""The exit status by which a process says that nothing was left for itself."""


def failure_of(status: int, *, memory_ran_out: bool) -> Failed:
    """The attempt's own failure, tried again as the policy says; `status` is negative when a signal ended it.

    `memory_ran_out` says that the kernel had to free memory by force while the process lived.
    """
    match -status:
        case signal.SIGXCPU:
            code, why = "cpu-limit", "used up its cpu_limit_seconds"
        case signal.SIGKILL if memory_ran_out:
            code, why = "out-of-memory", "was killed by the kernel, which was out of memory"
        case number if number == -EXIT_OUT_OF_MEMORY:
            code, why = "out-of-memory", "used up its memory_limit_mb"
        case number if number > 0:
            code, why = "crashed", f"was ended by {_name(number)}"
        case _:
            code, why = "crashed", f"exited with status {status} before its handler returned"
    return Failed(Failure(TYPE, f"The handler's process {why}.", code))


def failure_of_nonsense(what: str) -> Failed:
    """The failure of a process that lives and is beyond talking to, as after memory was overwritten."""
    return Failed(Failure(TYPE, f"The handler's process no longer made sense to its worker: {what}.", "crashed"))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # the real-time signals between the first and the last have no name
        return f"signal {number}"
