"""The inside of a process for isolated handlers: one job at a time, on its main thread, as the worker asks."""

import faulthandler
import fcntl
import os
import queue
import resource
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from ipaddress import ip_network
from typing import Any

import orjson

from jobs import outcomes, registry
from jobs.attempt import attempt, outcome_of
from jobs.outbound import Outbound
from jobs.outcomes import Failed, Failure, Interrupt, Outcome
from jobs.registry import UnknownJobType
from workers.isolation import limits
from workers.isolation.answers import packed
from workers.isolation.context import FLUSH_SECONDS, ForwardingContext, forwarding_context
from workers.isolation.deaths import EXIT_OUT_OF_MEMORY
from workers.isolation.frames import Channel, Frame
from workers.isolation.journal import forward_logs
from workers.section import Section


def main() -> None:
    """Serve the worker that started this process, until it hangs up or dies."""
    channel, lifeline = int(sys.argv[1]), int(sys.argv[2])
    del sys.argv[1:]
    _hold_on(lifeline)
    _prepare()
    os.set_inheritable(channel, False)
    Inside(Channel(socket.socket(fileno=channel))).serve()


def _hold_on(lifeline: int) -> None:
    """Have the kernel kill this process and its group as soon as the worker is gone, however it went.

    By a signal on the pipe's hang-up: it needs no thread of ours, so a handler that holds the GIL goes too;
    and PR_SET_PDEATHSIG would strike when the thread ended that happened to start us, not the worker.
    """
    os.set_inheritable(lifeline, False)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_RDONLY | os.O_ASYNC)
    hung_up = select.poll()
    hung_up.register(lifeline, 0)
    if hung_up.poll(0):  # the worker was gone before the kernel knew whom to tell
        os.killpg(0, signal.SIGKILL)


def _prepare() -> None:
    with suppress(RuntimeError):  # there is no standard error
        faulthandler.enable()  # a crash tells where, there
    _soft(resource.RLIMIT_CORE, 0)  # instead of a core file for each attempt
    for number in (signal.SIGTERM, signal.SIGINT):
        # Whoever stops a service may signal all its processes, but when a handler ends the worker decides. Not
        # SIG_IGN, which the programs that a handler runs would inherit.
        signal.signal(number, lambda *_: None)


def _soft(which: int, limit: int) -> None:
    resource.setrlimit(which, (limit, resource.getrlimit(which)[1]))


class Inside:
    """The two threads of such a process: the main one runs handlers, the other hears the worker."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.jobs: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self.busy = False
        self.context: ForwardingContext | None = None
        self.section = Section()
        self.http = Outbound()
        self.held_at_first = 0

    def serve(self) -> None:
        """Do one job after the other; returns when the worker hangs up."""
        hello = self.channel.receive()
        assert hello is not None  # noqa: S101 - without a time limit there is no None
        threading.Thread(target=self._hear, name="worker-ear", daemon=True).start()
        unready = self._get_ready(hello.told)
        self.held_at_first = limits.memory_held()
        while (job := self.jobs.get()) is not None:
            with suppress(ConnectionError):
                self._do(job, unready)

    def _get_ready(self, told: dict[str, Any]) -> Outcome | None:
        """Import the job types; an outcome, that of every job, if they cannot be."""
        forward_logs(self.channel, told["log_level"])
        networks = tuple(ip_network(network) for network in told["networks"])
        self.http = Outbound(networks, told["allow_http"])
        try:
            registry.load(told["modules"])
        except BaseException as error:  # noqa: BLE001 - a module may raise anything, SystemExit too
            return outcome_of(error)
        return None

    def _hear(self) -> None:
        try:
            while True:
                frame = self.channel.receive(FLUSH_SECONDS if self.busy else None)
                if frame is not None:
                    self._heed(frame)
                if (context := self.context) is not None:
                    context.flush()
        except MemoryError:
            # The handler has taken all there is, and a process that hears nothing is of no use.
            os._exit(EXIT_OUT_OF_MEMORY)
        except (EOFError, OSError):
            self.jobs.put(None)
            # Whoever waits for an answer shall not do so for ever.
            self.answers.put(Frame("refused", {"reason": "LeaseLost", "message": ""}, b""))

    def _heed(self, frame: Frame) -> None:
        match frame.kind:
            case "job":
                self.busy = True
                self.jobs.put(frame)
            case "cancel" if self.context is not None:
                self.context.cancel()
            case "interrupt":
                self._interrupt(getattr(outcomes, frame.told["reason"]))
            case "kept" | "refused":
                self.answers.put(frame)

    def _interrupt(self, kind: type[Interrupt]) -> None:
        if self.section.interrupt(kind):
            # Ends a wait inside C too: the call is broken off, and the exception strikes in the signal's handler.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
            self.channel.send("heard")

    def _do(self, job: Frame, unready: Outcome | None) -> None:
        self.section = Section()
        self.context = forwarding_context(job.told["context"], self.channel, self.answers, self.http)
        self.channel.send("begun")
        with limits.limited(job.told["memory_limit_mb"], job.told["cpu_limit_seconds"]):
            outcome = unready or self._attempt(job.told["context"]["job_type"], job.body, self.context)
        self.context.flush()
        self.context, self.busy = None, False
        _empty_pockets()
        self._answer(outcome, worn=self._worn(outcome, job.told["memory_limit_mb"]))

    def _attempt(self, name: str, args: bytes, context: ForwardingContext) -> Outcome:
        outcome: Outcome | None = None
        try:
            try:
                self.section.enter()
                outcome = attempt(registry.registry.get(name), orjson.loads(args), context)
            finally:
                self.section.leave()
        except UnknownJobType as error:
            # The modules have changed since the worker imported them.
            return Failed(Failure("UnknownJobType", str(error), "unknown-type"))
        except Interrupt as interrupt:
            self.section.leave()
            return outcome or outcome_of(interrupt)
        return outcome

    def _worn(self, outcome: Outcome, memory_limit_mb: int | None) -> bool:
        """Whether this process should do no further job: it ran out of memory, or has not given back enough."""
        if isinstance(outcome, Failed) and outcome.failure.code == "out-of-memory":
            return True
        return limits.memory_held() - self.held_at_first > limits.most_left_behind(memory_limit_mb)

    def _answer(self, outcome: Outcome, *, worn: bool) -> None:
        told, body = packed(outcome)
        self.channel.send("outcome", body, worn=worn, **told)


def _empty_pockets() -> None:
    """Write out what the handler printed, which would else come with a later job's, or never."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the handler may have closed or replaced them
            stream.flush()
