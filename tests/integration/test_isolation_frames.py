"""Frames between a worker and the process of an isolated handler, over a socket like theirs."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from workers.isolation.frames import MOST_BYTES, Channel, Frame, Garbled


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    one, other = map(Channel, socket.socketpair())
    yield one, other
    one.close()
    other.close()


def test_frames_arrive_whole_and_in_order(ends: tuple[Channel, Channel]):
    one, other = ends
    one.send("log", b"body", event="first")
    one.send("begun")
    assert other.receive(1) == Frame("log", {"event": "first"}, b"body")
    assert other.receive(1) == Frame("begun", {}, b"")
    assert other.receive(0) is None


def test_a_frame_larger_than_the_sockets_buffer_goes_through_from_either_side(ends: tuple[Channel, Channel]):
    one, other = ends
    body = bytes(range(256)) * 4096
    sender = threading.Thread(target=one.send, args=("outcome", body))
    sender.start()
    assert other.receive(10) == Frame("outcome", {}, body)
    sender.join()
    other.post("job", body)
    receiving: list[Frame | None] = []
    receiver = threading.Thread(target=lambda: receiving.append(one.receive(10)))
    receiver.start()
    while receiver.is_alive():
        assert other.receive(0.01) is None  # sends what there is room for
    assert receiving == [Frame("job", {}, body)]


def test_posting_waits_for_nobody(ends: tuple[Channel, Channel]):
    one, _ = ends
    one.post("job", bytes(MOST_BYTES // 2))
    began = time.monotonic()
    assert one.receive(0.05) is None
    assert time.monotonic() - began < 5


def test_half_a_frame_is_waited_for(ends: tuple[Channel, Channel]):
    one, other = ends
    whole = b"\x00\x00\x00\x10\x00\x00\x00\x00" + b'{"kind":"begun"}'
    one.socket.sendall(whole[:10])
    assert other.receive(0.01) is None
    one.socket.sendall(whole[10:])
    assert other.receive(1) == Frame("begun", {}, b"")


@pytest.mark.parametrize(
    "noise",
    [
        b"\xff" * 8,
        b"hello, world",
        b"\x00\x00\x00\x02\x00\x00\x00\x00{}",
        b"\x00\x00\x00\x02\x00\x00\x00\x00[]",
        b"\x00\x00\x00\x02\x00\x00\x00\x00\xff\xff",
    ],
)
def test_noise_is_no_frame(ends: tuple[Channel, Channel], noise: bytes):
    one, other = ends
    one.socket.sendall(noise)
    with pytest.raises(Garbled):
        other.receive(1)


def test_a_hang_up_is_told_after_what_came_before_it(ends: tuple[Channel, Channel]):
    one, other = ends
    one.send("begun")
    one.close()
    assert other.receive(1) == Frame("begun", {}, b"")
    with pytest.raises(EOFError):
        other.receive(1)
