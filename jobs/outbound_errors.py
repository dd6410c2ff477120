"""Why a call to the outside failed.

OutboundError
├── AddressRefused     the URL, or an address that its name leads to, is not one we may call; no retry helps
├── RequestInvalid     the method or a header cannot be sent; no retry helps
├── BodyTooLarge       the answer is longer than the caller takes; no retry helps
├── NameNotResolved    the name leads nowhere, for now
├── ConnectFailed      no connection, or no TLS session with who the name says
├── ConnectionLost     the peer broke off, or does not speak HTTP
└── DeadlineExceeded   the call as a whole took too long

No message holds a header's value or a URL's query: those may be secrets.
"""

# ruff: noqa: N818 - named for what happened, as in the tree above


class OutboundError(Exception):
    """A call to the outside failed."""


class AddressRefused(OutboundError):
    """The URL leads to where we do not go."""


class RequestInvalid(OutboundError):
    """The request cannot be sent as it is."""


class BodyTooLarge(OutboundError):
    """The answer is too long."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(f"The answer is longer than {most_bytes} bytes.")
        self.most_bytes = most_bytes


class NameNotResolved(OutboundError):
    """The host's name leads nowhere."""


class ConnectFailed(OutboundError):
    """No connection to the host."""


class ConnectionLost(OutboundError):
    """The host broke the conversation off."""


class DeadlineExceeded(OutboundError):
    """The call took too long as a whole."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The call was not done within its {seconds:g} seconds.")
        self.seconds = seconds
