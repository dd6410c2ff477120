"""Ports, and the patience to get one."""

import errno
import socket
import time

PORT_PATIENCE = 5.0
"""Seconds that a process before us, which was killed, and those it left behind may take to let go of the port."""


def listen(host: str, port: int) -> socket.socket:
    """Take a port, once whoever has it lets go of it. Raises OSError if that takes too long."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = time.monotonic() + PORT_PATIENCE
    while True:
        try:
            return socket.create_server((host, port), family=family)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
        time.sleep(0.2)
