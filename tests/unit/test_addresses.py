import ipaddress
from contextlib import suppress
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.addresses import DENIED_IPV4, Target, checked, denial, literal, target
from jobs.outbound_errors import AddressRefused

DENIED = [
    "0.0.0.0",  # noqa: S104 - nothing is bound to it
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.9",
    "192.0.0.192",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.168.1.1",
    "192.175.48.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:a9fe:a9fe",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2606:4700:4700::1111%eth0",
    "2620:4f:8000::1",
]
OPEN = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.1",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2606:4700:4700::1111",
    "3ffe::1",
]


@pytest.mark.parametrize("text", DENIED)
def test_an_address_that_only_our_machines_should_reach_is_denied(text):
    address = ip_address(text)
    assert denial(address)
    with pytest.raises(AddressRefused):
        checked("evil.example", [address])


@pytest.mark.parametrize("text", OPEN)
def test_an_address_of_the_public_network_may_be_called(text):
    assert denial(ip_address(text)) is None


@given(st.ip_addresses(v=4))
def test_every_ipv4_address_that_python_knows_as_private_is_denied_also_when_mapped(address):
    expected = not address.is_global or address.is_multicast
    mapped = ip_address(f"::ffff:{address}")
    if expected:
        assert denial(address)
    assert bool(denial(mapped)) == bool(denial(address))


@pytest.mark.parametrize("network", DENIED_IPV4)
def test_both_ends_of_each_denied_network_are_denied(network):
    assert denial(network[0])
    assert denial(network[-1])


def test_one_denied_answer_refuses_the_name():
    with pytest.raises(AddressRefused, match=r"evil\.example"):
        checked("evil.example", [ip_address("8.8.8.8"), ip_address("10.0.0.1")])


def test_a_refusal_does_not_tell_which_inner_address_a_name_has():
    with pytest.raises(AddressRefused) as refusal:
        checked("inner.example", [ip_address("10.1.2.3")])
    assert "10.1.2.3" not in str(refusal.value)


@pytest.mark.parametrize(
    ("network", "opened", "still_denied"),
    [
        ("127.0.0.0/8", ["127.0.0.1", "::ffff:127.0.0.1"], ["10.0.0.1", "::1"]),
        ("10.1.0.0/16", ["10.1.2.3"], ["10.2.0.1"]),
        ("::1/128", ["::1"], ["127.0.0.1", "::2"]),
    ],
)
def test_an_allowed_network_opens_what_it_names_and_no_more(network, opened, still_denied):
    allowed = [ip_network(network)]
    assert [denial(ip_address(text), allowed) for text in opened] == [None] * len(opened)
    assert all(denial(ip_address(text), allowed) for text in still_denied)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("::1", "::1"),
        ("example.com", None),
        ("1.2.3.4.5", None),
        ("bücher", None),
    ],
)
def test_every_spelling_of_an_address_is_seen_through(host, address):
    assert literal(host) == (address and ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.com", Target("https", "example.com", 443, b"/")),
        ("HTTPS://Example.COM:8443/a?b=c#d", Target("https", "example.com", 8443, b"/a?b=c")),
        ("http://example.com./x", Target("http", "example.com", 80, b"/x")),
        ("https://bücher.example/", Target("https", "xn--bcher-kva.example", 443, b"/")),
        ("https://[2001:4860:4860::8888]:1/", Target("https", "2001:4860:4860::8888", 1, b"/")),
        ("https://127。0。0。1/", Target("https", "127.0.0.1", 443, b"/")),
        ("https://example.com:65535/", Target("https", "example.com", 65535, b"/")),
    ],
)
def test_a_url_is_read_as_it_will_be_called(url, expected):
    assert target(url, allow_http=True) == expected


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.com/", "must start with"),
        ("file:///etc/passwd", "must start with"),
        ("example.com", "must start with"),
        ("//example.com/", "must start with"),
        ("", "must start with"),
        ("https:///path", "host"),
        ("https://", "host"),
        ("https://./", "host"),
        ("https://user:secret@example.com/", "user name"),
        ("https://@example.com/", "user name"),
        ("https://example.com\\@evil.example/", "backslash"),
        ("https://example.com:0/", "port"),
        ("https://example.com:65536/", "port"),
        ("https://example.com:-1/", "port"),
        ("https://example.com:x/", "no URL"),
        ("https://[fe80::1%25eth0]/", "zone"),
        ("https://[fe80::1%eth0]/", "zone"),
        ("https://exa mple.com/", "host"),
        ("https://%31%32%37.0.0.1/", "host"),
        ("https://example.com\r\nX: y/", "no URL"),
        ("https://[::1/", "host|no URL|port"),
        (f"https://{'a.' * 130}com/", "host"),
        (f"https://example.com/{'a' * 70_000}", "no URL"),
    ],
)
def test_a_url_that_could_mean_two_things_is_refused(url, words):
    with pytest.raises(AddressRefused, match=words) as refusal:
        target(url, allow_http=True)
    assert "secret" not in str(refusal.value)


@given(st.text() | st.text(alphabet="0123456789abcdefx.:[]%@/\\?# -"))
def test_any_text_is_either_a_url_or_refused(text: str):
    with suppress(AddressRefused):
        read = target(f"https://{text}")
        assert 1 <= read.port <= 65_535
        assert read.host.isascii()


def test_http_needs_permission():
    with pytest.raises(AddressRefused, match="https"):
        target("http://example.com/")
