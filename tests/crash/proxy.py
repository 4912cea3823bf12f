"""A proxy before Postgres that cuts a connection at its COMMIT, so that nobody learns what became of it."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

COMMIT = b"COMMIT\0"

Cut: TypeAlias = Literal["before", "during", "after"]
"""Before the server gets the COMMIT, as soon as it has it, or when it is done and nobody knows."""


class CuttingProxy:
    """Listens in `directory` and passes everything on to the server, but for the COMMIT that is to be cut."""

    def __init__(self, directory: Path, server: Path) -> None:
        self._server = str(server / ".s.PGSQL.5432")
        self._lock = threading.Lock()
        self._cut: Cut | None = None
        self._countdown = 0
        self.cuts = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / ".s.PGSQL.5432"))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_at(self, number: int, how: Cut) -> None:
        """Cut the connection of the `number`-th COMMIT from now on."""
        with self._lock:
            self._countdown, self._cut = number, how

    def close(self) -> None:
        self._listener.close()

    def _due(self) -> Cut | None:
        with self._lock:
            if self._cut is None:
                return None
            self._countdown -= 1
            if self._countdown:
                return None
            how, self._cut = self._cut, None
            self.cuts += 1
            return how

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(self._server)
                except OSError:
                    client.close()
                    continue
                deaf = threading.Event()
                threading.Thread(target=self._up, args=(client, server, deaf), daemon=True).start()
                threading.Thread(target=self._down, args=(client, server, deaf), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                how = self._due() if COMMIT in data else None
                if how == "before":
                    break
                if how is not None:
                    deaf.set()  # the answer is not passed on
                server.sendall(data)
                if how == "during":
                    _close(client)
                    return  # and `_down` waits until the server is done
        _close(client)
        if not deaf.is_set():
            _close(server)

    def _down(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                if deaf.is_set():
                    break
                client.sendall(data)
        _close(client)
        _close(server)


def _close(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
