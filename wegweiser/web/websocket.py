"""Websockets with a bound on how often a client may speak."""

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from daphne.ws_protocol import WebSocketProtocol

from tenants.rules import request_ids
from wegweiser.web.refusals import Refusal

log = structlog.get_logger(__name__)

# A page asks for a snapshot now and then; its browser answers a ping every 20 s.
FRAMES_AT_ONCE = 40
FRAMES_PER_SECOND = 4.0
MAX_FRAME_BYTES = 4096
POLICY_VIOLATION = 1008


class TooManyFrames(Exception):
    pass


@dataclass
class Allowance:
    """A token bucket: `burst` at once, `rate` a second in the long run."""

    burst: int
    rate: float
    at: float
    left: float

    @classmethod
    def full(cls, burst: int, rate: float, now: float) -> "Allowance":
        return cls(burst, rate, now, burst)

    def take(self, now: float) -> bool:
        self.left = min(self.burst, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class WebSocket(WebSocketProtocol):
    """Frames of every kind count, pings and fragments too, since each costs the event loop."""

    # Autobahn sets it on each connection.
    maxMessagePayloadSize: int  # noqa: N815

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        now = time.monotonic()
        self._allowance = Allowance.full(FRAMES_AT_ONCE, FRAMES_PER_SECOND, now)
        self._ended = False

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 (Twisted's name)
        # Once it was told to go, what it still sends is not looked at.
        if self._ended or self.failedByMe:
            return
        try:
            super().dataReceived(data)
        except TooManyFrames:
            self._ended = True
            self.data = b""
            log.info("websocket refused", detail="too many frames", path=self.request.path)
            self.sendCloseFrame(POLICY_VIOLATION, b"too many frames")

    def onFrameBegin(self) -> None:  # noqa: N802
        if not self._allowance.take(time.monotonic()):
            raise TooManyFrames
        super().onFrameBegin()

    def serverSend(self, content: str | bytes, binary: bool = False) -> None:  # noqa: N802
        """Send it; a frame that a closing page does not get any more is not an error."""
        if self.state in (self.STATE_CONNECTING, self.STATE_OPEN):
            super().serverSend(content, binary)

    def sendMessage(self, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        """The library holds what we send to the limit of what we take; a snapshot is larger."""
        limit, self.maxMessagePayloadSize = self.maxMessagePayloadSize, 0
        try:
            super().sendMessage(*args, **kwargs)
        finally:
            self.maxMessagePayloadSize = limit

    def onClose(self, *args: Any) -> None:  # noqa: N802
        # A handshake that failed was never made known to daphne's server.
        if hasattr(self, "server"):
            super().onClose(*args)

    def sendHttpErrorResponse(self, code: int, reason: str, *_: Any) -> None:  # noqa: N802
        # Without headers, where not even they could be read.
        offered = getattr(self, "http_headers", {}).get(request_ids.HEADER.lower(), "")
        refusal = Refusal(HTTPStatus(code), f"{reason}.")
        self.sendData(refusal.as_bytes(request_ids.request_id_from(offered)))
