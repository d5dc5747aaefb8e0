"""Make nats-py's client survive what a hostile publisher can put on the wire."""

from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg


class TolerantClient(Client):
    """A client that replaces characters that are not UTF-8 in subjects and headers.

    They would silently end nats-py's read loop and leave the connection deaf (seen with 2.16.0).
    """

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        message: Msg = super()._build_message(sid, _utf8(subject), _utf8(reply), data, headers)
        return message

    async def _process_headers(self, headers: bytes) -> dict[str, Any] | None:
        try:
            parsed: dict[str, Any] | None = await super()._process_headers(headers)
        except (ValueError, IndexError) as error:
            return {"Unreadable-Headers": str(error)}
        return parsed


def _utf8(text: bytes) -> bytes:
    return text.decode("utf-8", "replace").encode()
