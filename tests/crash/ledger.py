"""The ledger: a process of its own that writes down every real effect, and is never killed.

    python tests/crash/ledger.py      prints its port, serves until its standard input ends

Requests and replies are lines of JSON. `{"op": "add", "case": ..., ...}` appends an entry and returns
`{"seen": how many entries of this case had the same call and kind before}`; `{"op": "read", "case": ...}` returns
the entries of a case in the order they came.
"""

from __future__ import annotations

import json
import socket
import socketserver
import subprocess
import sys
import threading
from collections import defaultdict
from typing import Any

Entry = dict[str, Any]


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(json.dumps(self.server.answer(json.loads(line))).encode() + b"\n")  # type: ignore[attr-defined]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 512

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._lock = threading.Lock()
        self._cases: dict[str, list[Entry]] = defaultdict(list)

    def answer(self, request: Entry) -> object:
        with self._lock:
            entries = self._cases[request["case"]]
            if request.pop("op") == "read":
                return entries
            seen = sum(1 for e in entries if (e.get("call"), e["kind"]) == (request.get("call"), request["kind"]))
            entries.append(request)
            return {"seen": seen}

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: whoever was killed while it spoke to us is why we are here."""


class Ledger:
    """The client's side. Each call has a connection of its own, so that no two processes share a state."""

    def __init__(self, port: int, case: str) -> None:
        self._port = port
        self._case = case

    def add(self, kind: str, **entry: object) -> int:
        """Write an entry down, and return how many of this call and kind were there before."""
        seen = self._ask({"op": "add", "case": self._case, "kind": kind, **entry})["seen"]
        assert isinstance(seen, int)
        return seen

    def read(self) -> list[Entry]:
        return list(self._ask({"op": "read", "case": self._case}))

    def _ask(self, request: Entry) -> Any:
        with socket.create_connection(("127.0.0.1", self._port), 30) as connection:
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as answers:
                line = answers.readline()
        return json.loads(line)


class LedgerProcess:
    """A ledger and the process it lives in."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def of(self, case: str) -> Ledger:
        return Ledger(self.port, case)

    def stop(self) -> None:
        self._process.communicate()


def _serve() -> None:
    with _Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    _serve()
