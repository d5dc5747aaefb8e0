"""Answer for the server itself, before Django has seen anything of a request."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from tenants.rules import request_ids

# The `type` of docs/problems.md; the status says the rest.
TYPE = "http-refused"

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
                "type": TYPE,
                "title": self.status.phrase,
                "status": self.status,
                "detail": self.detail,
            }
        ).encode()

    def headers(self, request_id: str) -> Iterable[Header]:
        return (
            *HEADERS,
            (b"Content-Length", str(len(self.body)).encode()),
            (request_ids.HEADER.encode(), request_id.encode()),
        )

    def as_bytes(self, request_id: str) -> bytes:
        """The whole response, for a connection that is closed after it."""
        lines = [b"HTTP/1.1 %d %s" % (self.status, self.status.phrase.encode())]
        lines += [name + b": " + value for name, value in self.headers(request_id)]
        return b"\r\n".join([*lines, b"", self.body])
