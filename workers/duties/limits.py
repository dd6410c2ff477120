"""How many jobs of a limited queue may be handed out now: arithmetic over its row and its jobs, without a memory.

A rate is kept as the moment until which what was handed out keeps to it (the generic cell rate algorithm, ITU-T I.371).
The queue's row holds that moment, so every dispatcher goes on from where the last one was.
"""

import math
from datetime import datetime, timedelta

from models.gate import Gate
from models.lineup import InHand
from models.queue import Queue

SHORTEST_LOOK, LONGEST_LOOK = 0.02, 0.25
UNUSED_SECONDS = 0.05
"""What a rate leaves unused is made up for when it is no older than this and the time of one look, or of one job."""
WAITING_SECONDS = 0.25
"""Of a queue with a rate so much work at most waits on the broker: it would begin at once when a worker is free."""


def allowance(queue: Queue, in_hand: InHand) -> int:
    """How many more jobs the queue's limits let out at this moment, of a queue that has one."""
    return max(0, int(min(_by_number(queue, in_hand), _by_rate(queue, in_hand))))


def room(gate: Gate | None, in_hand: int, width: int) -> int:
    """How many more jobs a gate lets out: while its receiver gives no answer one, to see whether it does again."""
    if gate is None:
        return width - in_hand
    if gate.closed:
        return 0
    return (1 if gate.unanswered else width) - in_hand


def surplus(queue: Queue, in_hand: InHand) -> int:
    """How many jobs on the broker are too many: a limit was set, or a pause, after they were handed out."""
    if queue.paused:
        return in_hand.on_broker
    if queue.max_running is None:
        return 0
    return max(0, min(in_hand.on_broker, in_hand.on_broker + in_hand.running - queue.max_running))


def paced_until(queue: Queue, handed_out: int, now: datetime) -> datetime | None:
    """Until when that many more keep to the queue's rate; None without one."""
    if queue.max_per_second is None:
        return None
    return _since(queue, queue.max_per_second, now) + timedelta(seconds=handed_out / queue.max_per_second)


def look_again(queue: Queue, per_second: float) -> float:
    """Seconds until it is worth a look whether a limited queue lets out more, if its jobs begin at that rate."""
    if queue.max_per_second is not None:
        return min(max(0.5 / queue.max_per_second, SHORTEST_LOOK), LONGEST_LOOK)
    # About when half of those that run now are done.
    return min(max((queue.max_running or 1) / (2 * max(per_second, 1.0)), SHORTEST_LOOK), LONGEST_LOOK)


def look_again_at_gates(width: int, per_second: float) -> float:
    """Seconds until it is worth a look whether a gate that was full lets out more: when half of its jobs are done."""
    return min(max(width / (2 * max(per_second, 1.0)), SHORTEST_LOOK), LONGEST_LOOK)


def _by_number(queue: Queue, in_hand: InHand) -> float:
    return math.inf if queue.max_running is None else queue.max_running - in_hand.on_broker - in_hand.running


def _by_rate(queue: Queue, in_hand: InHand) -> float:
    rate = queue.max_per_second
    if rate is None:
        return math.inf
    unused = (in_hand.at - _since(queue, rate, in_hand.at)).total_seconds() * rate
    # A moment has microseconds, by which a whole job may seem to be a little less.
    return min(math.floor(unused + 1e-3), math.ceil(rate * WAITING_SECONDS) - in_hand.on_broker)


def _since(queue: Queue, rate: float, now: datetime) -> datetime:
    """From when on the rate's share is unused."""
    oldest = now - timedelta(seconds=max(1 / rate, UNUSED_SECONDS) + UNUSED_SECONDS)
    return oldest if queue.paced_until is None else max(queue.paced_until, oldest)
