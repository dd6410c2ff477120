"""What is declared about an operation of the API, from which its serving, its description and its tests follow."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from flask import request
from pydantic import BaseModel

from api.body import MOST_BYTES
from api.deprecation import Deprecated
from api.problems import Flaw
from api.schemas import Schema
from api.services import Services
from jobs.outcomes import Json
from jobs.rates import RouteClass
from jobs.scopes import Scope


class Writes(Enum):
    """How much an operation writes, and so which transaction it needs."""

    NOTHING = "nothing"
    COALESCED = "one statement, shared with other requests"
    SEVERAL = "several statements"


@dataclass(frozen=True)
class TakenHeader:
    """A request header that an operation takes; what does not match is refused with `code` and `detail`."""

    name: str
    pattern: str
    code: str
    detail: str
    description: str
    example: str

    def flaws(self) -> list[Flaw]:
        """What is wrong with it in this request; that it is missing is no flaw."""
        given = request.headers.get(self.name)
        right = given is None or re.fullmatch(self.pattern, given)
        return [] if right else [Flaw("header", self.name, self.code, self.detail)]


Examine = Callable[[Services, Json], Sequence[Flaw]]


class NoParameters(BaseModel, extra="forbid"):
    """The query of an operation that takes no parameters."""


@dataclass(frozen=True)
class Operation:
    """What is declared about one operation. Without a scope, it is open to everybody.

    `path` says more of the path's parameters, as JSON Schema. `reply` is the type of the document it answers, with
    `status` or `also`; `lists` that of a list's items; `example` is one of the answer, where its type has none.
    `problems` are the codes it may answer besides those that follow from the rest, `gives` the headers that its
    answers may have, with what they mean. A `form` is told of only: its view reads it. What is `audited` is told in
    the audit log: every change but a submission. A request counts as the `weight` of its body for the rate limits.
    """

    name: str
    summary: str
    description: str = ""
    scope: Scope | None = None
    writes: Writes = Writes.NOTHING
    path: Mapping[str, Schema] = field(default_factory=dict)
    query: type[BaseModel] = NoParameters
    body: type[BaseModel] | None = None
    form: type[BaseModel] | None = None
    most_body_bytes: int = MOST_BYTES
    examine: Examine | None = None
    takes: tuple[TakenHeader, ...] = ()
    reply: Any = None
    lists: Any = None
    example: Any = None
    media_type: str = "application/json"
    status: int = 200
    also: tuple[int, ...] = ()
    problems: tuple[str, ...] = ()
    gives: Mapping[str, str] = field(default_factory=dict)
    deprecated: Deprecated | None = None
    counts_as: RouteClass = RouteClass.READ
    weight: Callable[[Any], int] | None = None
    audited: bool = False
