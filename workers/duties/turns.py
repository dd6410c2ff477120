"""Whose turn it is: a fair share for each tenant whose jobs wait for the same threads, by weight.

Start-time fair queueing (Goyal, Vin, Cheng 1996): each tenant has a place on a common scale and moves along by 1/weight
with each job, and the hindmost is next. Who had nothing to do comes in at the hindmost's place: no credit is saved up.
Where a tenant's jobs wait at gates, these take turns in what the tenant gets, on a scale of the tenant's own: whoever
has many gates gets no more than who has one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heapreplace, nlargest
from operator import itemgetter
from types import MappingProxyType
from uuid import UUID

from models.lineup import Waiting

MOST_REMEMBERED = 1000
"""Who is forgotten beyond that was least ahead, and comes in at the hindmost's place."""
ANY_NUMBER: Mapping[UUID, int] = MappingProxyType({})


class Turns:
    """The places of those whose jobs wait in one lane, only remembered here: a new leader begins with all abreast."""

    def __init__(self) -> None:
        self._tenants = _Places()
        self._gates: dict[UUID, _Places] = {}

    def shares(self, waiting: Sequence[Waiting], wanted: int, rooms: Mapping[UUID, int] = ANY_NUMBER) -> Counter[UUID]:
        """How many of the next `wanted` jobs are each share's."""
        return Counter(self.in_turn(waiting, wanted, rooms))

    def in_turn(self, waiting: Sequence[Waiting], wanted: int, rooms: Mapping[UUID, int] = ANY_NUMBER) -> list[UUID]:
        """Whose share the next job is, and the one after it, up to `wanted`; of those abreast the longest due's first.

        A share that is named in `rooms` gets no more than that.
        """
        lines = [
            _Line(shares, self._gates.get(tenant_id, _Places()), rooms)
            for tenant_id, shares in _by_tenant(waiting).items()
        ]
        in_turn = [(self._tenants.of(line.tenant_id), number) for number, line in enumerate(lines)]
        heapify(in_turn)
        given: list[UUID] = []
        while in_turn and len(given) < wanted:
            place, number = in_turn[0]
            share_id = lines[number].next()
            if share_id is None:
                heappop(in_turn)
            else:
                given.append(share_id)
                heapreplace(in_turn, (place + 1 / lines[number].weight, number))
        return given

    def taken(self, waiting: Sequence[Waiting], jobs: Mapping[UUID, int]) -> None:
        """Those shares got so many; `waiting` is everyone who was to be served."""
        tenants: dict[UUID, float] = {}
        for tenant_id, shares in _by_tenant(waiting).items():
            got = {one.share_id: float(jobs.get(one.share_id, 0)) for one in shares}
            tenants[tenant_id] = sum(got.values()) / shares[0].weight
            gates = self._gates.pop(tenant_id, _Places())
            gates.move(got)
            if gates:
                self._gates[tenant_id] = gates
        for longest_unseen in list(self._gates)[: max(0, len(self._gates) - MOST_REMEMBERED)]:
            del self._gates[longest_unseen]
        self._tenants.move(tenants)


class _Places:
    """Places on one scale; who is not named is abreast of the hindmost."""

    def __init__(self) -> None:
        self._ahead: dict[UUID, float] = {}
        self._hindmost = 0.0

    def __len__(self) -> int:
        return len(self._ahead)

    def of(self, one: UUID) -> float:
        return max(self._ahead.get(one, 0.0), self._hindmost)

    def move(self, along: Mapping[UUID, float]) -> None:
        """Those moved along so far; who is not among them and behind all of them now comes in at their place."""
        self._ahead |= {one: self.of(one) + far for one, far in along.items()}
        self._hindmost = max(self._hindmost, min((self._ahead[one] for one in along), default=0.0))
        self._ahead = {one: place for one, place in self._ahead.items() if place > self._hindmost}
        if len(self._ahead) > MOST_REMEMBERED:  # half of them, so that not every step has to choose
            self._ahead = dict(nlargest(MOST_REMEMBERED // 2, self._ahead.items(), key=itemgetter(1)))


class _Line:
    """A tenant's shares in the order of their turns, as long as one of them has room."""

    def __init__(self, shares: Sequence[Waiting], places: _Places, rooms: Mapping[UUID, int]) -> None:
        self.tenant_id, self.weight = shares[0].tenant_id, shares[0].weight
        self._ids = [one.share_id for one in shares]
        self._left = {share_id: rooms[share_id] for share_id in self._ids if share_id in rooms}
        self._in_turn = [(places.of(share_id), number) for number, share_id in enumerate(self._ids)]
        heapify(self._in_turn)

    def next(self) -> UUID | None:
        """Whose turn it is within the tenant's share; None if none has room for another job."""
        while self._in_turn:
            place, number = self._in_turn[0]
            share_id = self._ids[number]
            if self._left.get(share_id, 1) <= 0:
                heappop(self._in_turn)
                continue
            if share_id in self._left:
                self._left[share_id] -= 1
            heapreplace(self._in_turn, (place + 1, number))
            return share_id
        return None


def _by_tenant(waiting: Sequence[Waiting]) -> dict[UUID, list[Waiting]]:
    """Each tenant's shares; tenants and shares in the order of their first due times."""
    of: dict[UUID, list[Waiting]] = {}
    for one in sorted(waiting, key=lambda one: one.due_at):
        of.setdefault(one.tenant_id, []).append(one)
    return of
