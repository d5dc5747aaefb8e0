"""Answer for the server itself, before Django has seen anything of a request."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

Header = tuple[bytes, bytes]

HEADERS: tuple[Header, ...] = (
    (b"Content-Type", b"application/problem+json"),
    (b"Content-Security-Policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"same-origin"),
    (b"Cache-Control", b"no-store"),
    (b"Connection", b"close"),
)


@dataclass(frozen=True)
class Refusal:
    """An error as problem details (RFC 9457)."""

    status: HTTPStatus
    detail: str

    @property
    def body(self) -> bytes:
        return json.dumps(
            {
                "type": "about:blank",
                "title": self.status.phrase,
                "status": self.status,
                "detail": self.detail,
            }
        ).encode()

    @property
    def headers(self) -> Iterable[Header]:
        return (*HEADERS, (b"Content-Length", str(len(self.body)).encode()))

    def as_bytes(self) -> bytes:
        """The whole response, for a connection that is closed after it."""
        lines = [b"HTTP/1.1 %d %s" % (self.status, self.status.phrase.encode())]
        lines += [name + b": " + value for name, value in self.headers]
        return b"\r\n".join([*lines, b"", self.body])
