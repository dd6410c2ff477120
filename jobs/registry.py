"""The job types this installation knows, and the decorator that adds one."""

import importlib
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from jobs.context import Context
from jobs.retry import Exponential, RetryPolicy
from jobs.scopes import Scope
from jobs.whole_numbers import all_whole
from setting_forms import QUEUE_NAME

TYPE_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
MOST_ATTEMPTS = 100
LONGEST_TIMEOUT = timedelta(days=7)
LEAST_MEMORY_MB = 16
MOST_MEMORY_MB = 1024 * 1024
MOST_CPU_SECONDS = 7 * 24 * 3600

Handler = Callable[..., Any]
Bound = TypeVar("Bound", int, timedelta)


class BadJobType(Exception):  # noqa: N818 - reads as the sentence it is
    """A job type was declared in a way that cannot work; the message says what to change."""


class Isolation(StrEnum):
    """Where handlers of a type run: on a thread of the worker, or in a process that may crash for itself."""

    THREAD = "thread"
    PROCESS = "process"


class UnknownJobType(LookupError):  # noqa: N818
    """No module that this process imported declares the type."""

    def __init__(self, name: str) -> None:
        super().__init__(f"No job type {name!r} here; is its module named in JOBMILL_JOBS?")
        self.name = name


@dataclass(frozen=True)
class JobType:
    """A declared job type.

    `max_attempts` and `timeout` are what a job gets when it does not ask; the `..._limit` twins are the
    most that a job may ask for. `memory_limit_mb` is what an isolated handler may take on top of what its
    process held before, `cpu_limit_seconds` what an attempt may compute; None: as much as there is. Jobs of an
    `internal` type are made by Jobmill itself, and by nobody else; it names the scope that ending one takes. One that
    `keeps_queue` has that for itself.
    """

    name: str
    description: str
    handler: Handler
    args_model: type[BaseModel]
    result_type: Any
    takes_context: bool
    queue: str
    max_attempts: int
    max_attempts_limit: int
    timeout: timedelta
    timeout_limit: timedelta
    retry: RetryPolicy
    isolation: Isolation = Isolation.THREAD
    memory_limit_mb: int | None = None
    cpu_limit_seconds: int | None = None
    internal: Scope | None = None
    keeps_queue: bool = False

    def parse(self, args: object) -> BaseModel:
        """The arguments as the handler's model; raises pydantic.ValidationError with every fault.

        By the rules of JSON, strictly: "5" is no number and 5.0 is an integer, as the type's JSON Schema says too.
        """
        try:
            return self._strictly(args)
        except ValidationError:
            # Only now, so that a member that may hold anything keeps its 1.0 where that disturbs nobody.
            return self._strictly(all_whole(args))

    def _strictly(self, args: object) -> BaseModel:
        return self.args_model.model_validate_json(orjson.dumps(args), strict=True)

    def call(self, args: BaseModel, context: Context) -> object:
        """Run the handler; gives back what it returned, not yet checked."""
        return self.handler(args, context) if self.takes_context else self.handler(args)

    def plain(self, answer: object) -> object:
        """A handler's answer as plain Python values; raises pydantic's errors if it is not what was declared."""
        return self._one_result.dump_python((self._result.validate_python(answer),), mode="json")[0]

    @cached_property
    def _result(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.result_type)

    @cached_property
    def _one_result(self) -> TypeAdapter[Any]:
        # Within a tuple of one, since a model's adapter takes no configuration of ours; without it a NaN
        # in an `Any` would become null in silence.
        return TypeAdapter(tuple[self.result_type], config=ConfigDict(ser_json_inf_nan="constants"))  # type: ignore[name-defined]

    @cached_property
    def args_schema(self) -> dict[str, Any]:
        """JSON Schema 2020-12 of the arguments."""
        return self.args_model.model_json_schema()

    @cached_property
    def result_schema(self) -> dict[str, Any]:
        """JSON Schema 2020-12 of the result."""
        return self._result.json_schema(mode="serialization")


class Registry:
    """Job types by name. The process's own is `registry`; a test can make another.

    `modules` are those that a process of its own imports to know the same types.
    """

    def __init__(self) -> None:
        self._types: dict[str, JobType] = {}
        self.kept_queues: frozenset[str] = frozenset()
        """The queues of types that keep theirs, in which nobody else puts a job."""
        self.modules: tuple[str, ...] = ()

    def add(self, job_type: JobType) -> None:
        """Add a type; raises BadJobType when another handler has the name."""
        known = self._types.get(job_type.name)
        if known and known.handler is not job_type.handler:
            raise BadJobType(f"Two handlers are called {job_type.name!r}: {known.handler}, {job_type.handler}")
        self._types[job_type.name] = job_type
        self.kept_queues = frozenset(each.queue for each in self._types.values() if each.keeps_queue)

    def get(self, name: str) -> JobType:
        """The type of that name, or UnknownJobType."""
        try:
            return self._types[name]
        except KeyError:
            raise UnknownJobType(name) from None

    def all(self) -> list[JobType]:
        """Every type, by name."""
        return [self._types[name] for name in sorted(self._types)]

    def offered(self) -> list[JobType]:
        """Every type that a client may submit, by name."""
        return [job_type for job_type in self.all() if not job_type.internal]

    def __contains__(self, name: str) -> bool:
        return name in self._types


registry = Registry()


def job(  # noqa: PLR0913 - what there is to say of a type, each with a default
    name: str,
    *,
    queue: str = "default",
    max_attempts: int = 5,
    max_attempts_limit: int | None = None,
    timeout: timedelta = timedelta(minutes=5),
    timeout_limit: timedelta | None = None,
    retry: RetryPolicy | None = None,
    isolation: str = Isolation.THREAD,
    memory_limit_mb: int | None = None,
    cpu_limit_seconds: int | None = None,
    internal: Scope | None = None,
    keeps_queue: bool = False,
    into: Registry = registry,
) -> Callable[[Handler], Handler]:
    """Declare a handler: `@job("acme.greet")` on `def greet(args: Greet, context: Context) -> Greeting`.

    The first parameter's annotation is a pydantic model, the context is optional, the return annotation
    is anything that pydantic can turn into JSON. Raises BadJobType at import when the declaration is wrong.
    """

    def declare(handler: Handler) -> Handler:
        into.add(
            JobType(
                name=_named(name, TYPE_NAME, "job type"),
                description=inspect.getdoc(handler) or "",
                handler=handler,
                **_signature(name, handler),
                queue=_named(queue, QUEUE_NAME, "queue"),
                max_attempts=max_attempts,
                max_attempts_limit=_limit(
                    name, "max_attempts", 1, max_attempts, max_attempts_limit or max(max_attempts, 25), MOST_ATTEMPTS
                ),
                timeout=timeout,
                timeout_limit=_limit(
                    name,
                    "timeout",
                    timedelta(seconds=1),
                    timeout,
                    timeout_limit or max(timeout, timedelta(days=1)),
                    LONGEST_TIMEOUT,
                ),
                retry=retry or Exponential(),
                isolation=_isolation(name, isolation, memory_limit_mb, cpu_limit_seconds),
                memory_limit_mb=_resource(name, "memory_limit_mb", memory_limit_mb, LEAST_MEMORY_MB, MOST_MEMORY_MB),
                cpu_limit_seconds=_resource(name, "cpu_limit_seconds", cpu_limit_seconds, 1, MOST_CPU_SECONDS),
                internal=internal,
                keeps_queue=keeps_queue,
            )
        )
        return handler

    return declare


def load(modules: Sequence[str]) -> Registry:
    """Import the shipped types and then the user's modules (`JOBMILL_JOBS`); returns the registry."""
    for module in ("jobs.builtin", *modules):
        importlib.import_module(module)
    registry.modules = tuple(modules)
    return registry


def _named(name: str, pattern: re.Pattern[str], what: str) -> str:
    if not pattern.fullmatch(name) or len(name) > 100:  # noqa: PLR2004
        raise BadJobType(f"{name!r} is no {what} name: it must match {pattern.pattern} (e.g. 'acme.greet')")
    return name


def _limit(name: str, what: str, least: Bound, default: Bound, limit: Bound, most: Bound) -> Bound:
    if not least <= default <= limit <= most:
        raise BadJobType(f"{name}: {what} needs {least} <= {default} <= its limit {limit} <= {most}")
    return limit


def _isolation(name: str, isolation: str, *limits: int | None) -> Isolation:
    if isolation not in {*Isolation}:
        raise BadJobType(f"{name}: isolation is 'thread' or 'process', not {isolation!r}")
    if isolation == Isolation.THREAD and any(limit is not None for limit in limits):
        raise BadJobType(
            f"{name}: memory_limit_mb and cpu_limit_seconds need isolation='process'; a thread has no limits of its own"
        )
    return Isolation(isolation)


def _resource(name: str, what: str, limit: int | None, least: int, most: int) -> int | None:
    # `True` is an int to Python.
    if limit is not None and not (type(limit) is int and least <= limit <= most):
        raise BadJobType(f"{name}: {what} is a whole number from {least} to {most}, not {limit!r}")
    return limit


def _signature(name: str, handler: Handler) -> Mapping[str, Any]:
    hints = typing.get_type_hints(handler)
    parameters = list(inspect.signature(handler).parameters)
    args_model = hints.get(parameters[0]) if parameters else None
    if len(parameters) not in {1, 2} or not (isinstance(args_model, type) and issubclass(args_model, BaseModel)):
        raise BadJobType(f"{name}: write it as `def handler(args: AModel, context: Context) -> AResult`")
    if "return" not in hints:
        raise BadJobType(f"{name}: annotate what it returns; `-> None` if nothing")
    return {"args_model": args_model, "result_type": hints["return"], "takes_context": len(parameters) > 1}
