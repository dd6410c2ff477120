"""With real receivers: nobody is sent on to a hostile URL, and what a name leads to counts at each connection."""

import re
import socket
from contextlib import AbstractContextManager, nullcontext
from ipaddress import ip_address, ip_network

import pytest

from jobs.addresses import denial
from jobs.outbound import Outbound
from jobs.outbound_errors import AddressRefused, ConnectionLost
from tests.hostile_urls import HOSTILE, SPELLINGS, Hostile
from tests.integration.test_outbound import OK, answering, peer

ONLY_RECEIVER = (ip_network("127.0.0.1/32"),)
# A NUL is no part of a header, and a line that is no header breaks the answer off.
BREAKS_THE_ANSWER = re.compile(r"\0|\n/")
# Some spell the receiver's own address, which is allowed here.
OTHERS = [*{row.address: row for row in SPELLINGS if denial(ip_address(str(row.address)), ONLY_RECEIVER)}.values()]

Opened = list[tuple[str, int]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Every connection that anything in this process tries to open."""
    tried: Opened = []
    for name in ("connect", "connect_ex"):
        connect = getattr(socket.socket, name)

        def recorded(self: socket.socket, address: tuple[str, int], connect=connect):
            tried.append(address[:2])
            return connect(self, address)

        monkeypatch.setattr(socket.socket, name, recorded)
    return tried


def never(host: str) -> list[str]:
    raise AssertionError(f"{host} must not be looked up")


def redirect(url: str, status: int = 302) -> bytes:
    location = url.encode("utf-8", "surrogatepass")
    return b"HTTP/1.1 %d Elsewhere\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % (status, location)


@pytest.mark.parametrize("row", HOSTILE, ids=lambda row: ascii(row.url))
def test_a_receiver_cannot_send_us_on_to_a_hostile_url(row: Hostile, opened: Opened):
    broken: AbstractContextManager = nullcontext()
    if BREAKS_THE_ANSWER.search(row.url):
        broken = pytest.raises(ConnectionLost)
    outbound = Outbound(ONLY_RECEIVER, allow_http=True, resolve=never)
    with peer(answering(redirect(row.url))) as (port, connected):
        with broken:
            assert outbound.request("POST", f"http://127.0.0.1:{port}/").status == 302
        assert opened == [("127.0.0.1", port)]
        assert len(connected) == 1


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
def test_a_receiver_cannot_send_us_on_to_where_we_may_go_either(status: int, opened: Opened):
    outbound = Outbound(ONLY_RECEIVER, allow_http=True, resolve=never)
    with peer(answering(OK + b"\r\n")) as (other, connected):
        with peer(answering(redirect(f"http://127.0.0.1:{other}/", status))) as (port, _):
            assert outbound.request("POST", f"http://127.0.0.1:{port}/").status == status
        assert opened == [("127.0.0.1", port)]
        assert connected == []


@pytest.mark.parametrize("row", OTHERS, ids=lambda row: row.address)
def test_a_name_that_changes_counts_by_the_address_of_each_connection(row: Hostile, opened: Opened):
    answers = iter([["127.0.0.1"], ["127.0.0.1"], [row.address], ["127.0.0.1", row.address]])
    outbound = Outbound(ONLY_RECEIVER, allow_http=True, resolve=lambda _: next(answers))
    with peer(answering(OK + b"\r\n")) as (port, connected):
        url = f"http://rebind.example:{port}/"
        outbound.check(url)
        assert outbound.request("POST", url).status == 200
        for _ in ("alone", "beside the good one"):
            with pytest.raises(AddressRefused, match=row.reason):
                outbound.request("POST", url)
        assert opened == [("127.0.0.1", port)]
        assert len(connected) == 1
