"""Every hostile URL is refused: as itself, and, where it is an address, as what a name leads to.

Nothing here can open a socket, so a test in which a connection were tried would fail.
"""

import ssl
from ipaddress import ip_address, ip_network

import pytest

from jobs.addresses import checked
from jobs.outbound import Outbound
from jobs.outbound_errors import AddressRefused
from tests.hostile_urls import HOSTILE, NAMES, SPELLINGS, TEXTS, Hostile

PUBLIC = "8.8.8.8"
TLS = ssl.create_default_context()
ADDRESSES = [*{row.address: row for row in [*TEXTS, *SPELLINGS] if row.address}.values()]

each_text = pytest.mark.parametrize("row", [*TEXTS, *SPELLINGS], ids=lambda row: ascii(row.url))
each_name = pytest.mark.parametrize("row", NAMES, ids=lambda row: ascii(row.url))
each_address = pytest.mark.parametrize("row", ADDRESSES, ids=lambda row: row.address)
schemes = pytest.mark.parametrize("scheme", ["https", "http"])


def never(host: str) -> list[str]:
    raise AssertionError(f"{host} must not be looked up")


def refused(outbound: Outbound, url: str, reason: str) -> str:
    """The words of the refusal, which are the same when a URL is saved and when it is called."""
    with pytest.raises(AddressRefused, match=reason) as when_called:
        outbound.request("POST", url, content=b"{}")
    with pytest.raises(AddressRefused, match=reason) as when_saved:
        outbound.check(url)
    assert str(when_called.value) == str(when_saved.value)
    return str(when_called.value)


def test_the_table_is_long_and_names_each_url_once():
    assert len(HOSTILE) == len({row.url for row in HOSTILE})
    assert len(HOSTILE) >= 150


@schemes
@each_text
def test_a_hostile_url_is_refused_without_a_look_up_or_a_connection(row: Hostile, scheme: str):
    url = row.url.replace("https:", f"{scheme}:", 1) if row.url.startswith("https:") else row.url
    words = refused(Outbound(allow_http=scheme == "http", resolve=never, ssl_context=TLS), url, row.reason)
    assert "canary" not in words


@each_name
def test_a_name_that_leads_inside_is_refused_without_a_connection(row: Hostile):
    assert row.address
    words = refused(Outbound(resolve=lambda _: [row.address], ssl_context=TLS), row.url, row.reason)
    assert row.address not in words.partition(" leads to ")[2]


@pytest.mark.parametrize("beside", [[], [PUBLIC], ["2606:4700:4700::1111"]], ids=["alone", "IPv4", "IPv6"])
@each_address
def test_a_hostile_answer_refuses_a_name_alone_and_beside_a_good_one(row: Hostile, beside: list[str]):
    reason = "zone" if "%" in row.address else row.reason
    for answers in ([row.address, *beside], [*beside, row.address]):
        refused(Outbound(resolve=lambda _, answers=answers: answers, ssl_context=TLS), "https://evil.example/", reason)


@each_address
def test_a_name_that_is_good_when_saved_and_hostile_when_called_is_refused_when_called(row: Hostile):
    answers = iter([[PUBLIC], [row.address]])
    outbound = Outbound(resolve=lambda _: next(answers), ssl_context=TLS)
    outbound.check("https://rebind.example/")
    with pytest.raises(AddressRefused):
        outbound.request("POST", "https://rebind.example/")


@each_address
def test_an_allowed_network_opens_this_address_and_no_other_of_the_table(row: Hostile):
    address = ip_address(row.address.partition("%")[0])
    allowed = [ip_network(getattr(address, "ipv4_mapped", None) or address)]
    for other in ADDRESSES:
        if same(other.address, row.address) and "%" not in other.address:
            assert checked("allowed.example", [ip_address(other.address)], allowed)
        else:
            with pytest.raises(AddressRefused):
                checked("other.example", [ip_address(other.address)], allowed)


def same(one: str, other: str) -> bool:
    """Whether two texts, without their zones, are one address; an IPv4-mapped one is the IPv4 address."""
    plain = [ip_address(text.partition("%")[0]) for text in (one, other)]
    return len({getattr(address, "ipv4_mapped", None) or address for address in plain}) == 1


def test_a_good_url_passes_when_saved():
    Outbound(resolve=lambda _: [PUBLIC]).check("https://hooks.example:8443/x?y=z")
    Outbound(resolve=never).check(f"https://{PUBLIC}/")


def test_what_is_allowed_passes_when_saved():
    allowed = Outbound((ip_network("10.1.0.0/16"),), resolve=never)
    allowed.check("https://10.1.2.3/")
    with pytest.raises(AddressRefused, match="private"):
        allowed.check("https://10.2.0.1/")
