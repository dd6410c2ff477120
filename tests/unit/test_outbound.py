import pytest

from jobs.outbound import Outbound
from jobs.outbound_errors import AddressRefused, NameNotResolved, RequestInvalid


def never(host: str) -> list[str]:
    raise AssertionError(f"{host} must not be looked up")


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "Connection", "Accept-Encoding",
                                  "Upgrade", "Expect", "Proxy-Authorization"])  # fmt: skip
def test_headers_that_frame_the_message_are_not_the_callers(name):
    with pytest.raises(RequestInvalid, match=name):
        Outbound(resolve=never).request("GET", "https://example.com", headers={name: "canary"})


@pytest.mark.parametrize("value", ["canary\r\nX: y", "canary\n", "canary\x00", "canaryé"])
def test_a_value_that_could_split_the_message_is_refused_without_being_told(value):
    with pytest.raises(RequestInvalid) as refusal:
        Outbound(resolve=never).request("GET", "https://example.com", headers={"X-Key": value})
    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize("name", ["", "X Key", "X:Key", "X\r\nY", "é"])
def test_a_name_that_is_no_token_is_refused(name):
    with pytest.raises(RequestInvalid):
        Outbound(resolve=never).request("GET", "https://example.com", headers={name: "x"})


@pytest.mark.parametrize("method", ["CONNECT", "trace", "", "GET /", "G\r\nET"])
def test_a_method_that_is_not_for_this_is_refused(method):
    with pytest.raises(RequestInvalid):
        Outbound(resolve=never).request(method, "https://example.com")


@pytest.mark.parametrize("url", ["https://127.1/", "https://[::ffff:10.0.0.1]/", "https://169.254.169.254/latest"])
def test_an_address_in_the_url_is_refused_without_a_connection(url):
    # Sockets are disabled here, so a connection would fail the test.
    with pytest.raises(AddressRefused):
        Outbound().request("GET", url)


@pytest.mark.parametrize("answers", [["10.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::1"], ["fe80::1%eth0"]])
def test_a_name_with_one_denied_address_is_refused_without_a_connection(answers):
    with pytest.raises(AddressRefused):
        Outbound(resolve=lambda _: answers).request("GET", "https://example.com")


def test_a_name_without_an_address_is_not_resolved():
    with pytest.raises(NameNotResolved):
        Outbound(resolve=lambda _: []).request("GET", "https://example.com")


def test_http_is_not_called_unless_allowed():
    with pytest.raises(AddressRefused, match="https"):
        Outbound(resolve=never).request("GET", "http://example.com")
