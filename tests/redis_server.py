"""A real Redis server for tests, where the machine has one: on a free port of 127.0.0.1, keeping nothing."""

from __future__ import annotations

import shutil
import socket
import subprocess
from time import monotonic, sleep

WITHOUT = (
    "redis-server is not on the PATH (Debian: apt install redis-server), so shared rate limits are not tested"
)
START_TIMEOUT_S = 10.0


class RedisServer:
    """One server, empty whenever it starts."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        program = shutil.which("redis-server")
        assert program is not None
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        give_up_at = monotonic() + START_TIMEOUT_S
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(16).startswith(b"+PONG"):
                        return
            except OSError:
                pass
            if self._process.poll() is not None or monotonic() > give_up_at:
                raise RuntimeError("redis-server did not start")
            sleep(0.01)

    def stop(self) -> None:
        """Stop it, as if the machine had gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(10)
