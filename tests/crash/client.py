"""A caller of the server under test, who notes what was acknowledged and lives with a server that dies on him."""

from __future__ import annotations

import http.client
import json
from threading import Event, Lock
from time import monotonic, sleep
from typing import Any

from msgspec import Struct

ANSWER_S = 90.0


class UnansweredError(Exception):
    """The server died before it had answered, so that nobody knows what became of the request."""


class NotTakenError(UnansweredError):
    """There was no server that could have taken the request."""


class Acknowledged(Struct, frozen=True):
    """An answer that promises something, and the port of the server that gave it."""

    status: int
    answer: dict[str, Any]
    port: int


class Caller:
    """Speaks to whichever server is up. `port` is set by who starts servers."""

    def __init__(self) -> None:
        self.port = 0
        self.acknowledged: list[Acknowledged] = []
        self.keys: dict[str, set[str]] = {}
        self._up = Event()
        self._lock = Lock()

    def up(self, port: int) -> None:
        self.port = port
        self._up.set()

    def down(self) -> None:
        self._up.clear()

    def ask(
        self, method: str, path: str, body: object = None, *, key: str | None = None, timeout: float = ANSWER_S
    ) -> tuple[int, dict[str, Any]]:
        """Ask once, when there is a server.

        Raises:
            UnansweredError, NotTakenError
        """
        self._up.wait(60)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = f'"{key}"'
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        except ConnectionRefusedError as error:
            raise NotTakenError(str(error)) from error
        except (OSError, http.client.HTTPException) as error:
            raise UnansweredError(str(error)) from error
        finally:
            connection.close()

    def read(self, path: str) -> dict[str, Any]:
        """GET until there is an answer."""
        give_up_at = monotonic() + 60
        while True:
            try:
                status, answer = self.ask("GET", path, timeout=10)
                if status == 200:
                    return answer
            except UnansweredError as error:
                answer = {"error": str(error)}
            if monotonic() > give_up_at:
                raise TimeoutError(f"no answer to GET {path}: {answer}")
            sleep(0.02)

    def post(self, path: str, body: object, *, key: str | None = None) -> dict[str, Any] | None:
        """Post a run and note what is acknowledged; with a key, again until it is. None: unanswered."""
        give_up_at = monotonic() + 60
        while True:
            self._up.wait(60)
            port = self.port
            try:
                status, answer = self.ask("POST", f"/api/v1/{path}", body, key=key)
            except NotTakenError:
                sleep(0.02)
                continue
            except UnansweredError:
                status, answer = 0, {}
            if status in (200, 202):
                with self._lock:
                    self.acknowledged.append(Acknowledged(status, answer, port))
                    if key is not None:
                        self.keys.setdefault(key, set()).add(answer["run_id"])
                return answer
            if key is None or monotonic() > give_up_at:
                if 400 <= status < 500:
                    raise AssertionError(f"{path} was refused with {status}: {answer}")
                return None
            sleep(0.02)

    def runs(self) -> list[dict[str, Any]]:
        """Return all runs there are."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.read(f"/api/v1/runs?limit=100{cursor}")
            found += page["runs"]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"
