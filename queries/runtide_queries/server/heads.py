"""How large the head of a request may be: the parser alone would keep one without an end in memory."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 1024
"""Request line and headers; what comes in one piece from the connection is read before it is counted."""
_REFUSAL = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
    b"x-content-type-options: nosniff\r\ncontent-length: 53\r\n\r\na request's line and headers have at most 65536 bytes"
)


class BoundedHttp(HttpToolsProtocol):
    """Uvicorn's HTTP/1.1, which ends a connection whose request does not come to its body."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_head, self._head_bytes = False, 0

    def data_received(self, data: bytes) -> None:
        """Take bytes of the connection."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(_REFUSAL)
                self.transport.close()

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Count no more."""
        self._in_head = False
        super().on_headers_complete()
