"""The HTTP/1.1 protocol of the server: uvicorn's, with bounds on what comes before anybody is known."""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 64 * 1024
"""How long a request line and headers may be together, or trailers, or chunk extensions (RFC 9112 section 7.1).
The parser by itself takes any number of bytes, and joins the pieces of a long one in quadratic time."""

MAX_WAITING: Final = 16
"""How many requests may wait on one connection for the answer to the one before (pipelining)."""


class BoundedProtocol(HttpToolsProtocol):
    """Answers 400, or closes where an answer is under way, when what is no body goes on without end."""

    _is_in_head = True
    _bytes_of_no_body = 0

    def on_message_begin(self) -> None:
        """Begin a request, unless too many wait already."""
        if len(self.pipeline) >= MAX_WAITING:
            raise ValueError("too many requests at once")  # the parser takes it for bad HTTP, and so does uvicorn
        super().on_message_begin()
        self._is_in_head, self._bytes_of_no_body = True, 0

    def on_headers_complete(self) -> None:
        """Take note that a body follows, or nothing."""
        self._is_in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body, of which the application takes as much as it wants."""
        self._bytes_of_no_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._bytes_of_no_body = 0
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Take what has come, unless it is too much."""
        self._bytes_of_no_body += len(data)
        super().data_received(data)
        if self._bytes_of_no_body > MAX_HEAD_BYTES and not self.transport.is_closing():
            if self._is_in_head:
                self.send_400_response(f"The request line and headers are longer than {MAX_HEAD_BYTES} bytes.")
            else:
                self.transport.close()
