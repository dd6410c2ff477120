"""Unit tests reach nothing: whoever opens a socket here wants to be in tests/integration."""

import pytest


@pytest.fixture(autouse=True)
def _no_sockets(socket_disabled: None) -> None:
    pass
