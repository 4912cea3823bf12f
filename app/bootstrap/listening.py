"""Listening: sockets for the servers of a process, or one line that says why there is none."""

from __future__ import annotations

import errno
import os
import socket

from ..errors import PortInUseError


def listen(host: str, port: int, variable: str = "PORT") -> socket.socket:
    """Return a listening socket; `variable` is the setting that the port is from.

    Raises:
        PortInUseError: the address is taken, not ours, or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        hint = ""
        if error.errno == errno.EADDRINUSE:
            hint = f" Stop the program that has the port, or choose another: {variable}={port % 65_535 + 1}."
        raise PortInUseError(f"Cannot listen on {host}, port {port}: {reason}.{hint}") from error
