"""HTTP connections with bounds on the size, the time and the number of parts of a request.

daphne reads a request whole before Django sees it, so Django's own limits come too late.
"""

import asyncio
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import structlog
from daphne.http_protocol import WebRequest
from django.conf import settings
from twisted.internet.protocol import connectionDone
from twisted.web.http import HTTPChannel

from tenants.rules import request_ids
from wegweiser.web.refusals import Refusal

log = structlog.get_logger(__name__)

# From the first byte to the end of the headers, and from there to the end of the body.
HEAD_SECONDS = 20
BODY_SECONDS = 60
# For the client to take the next piece of an answer, which is 1 MB at most.
TAKE_SECONDS = 120
# What chunked encoding may add to a body; a chunk for each byte would keep the loop busy.
CHUNK_OVERHEAD = 64 * 1024
# A client that is still sending when it is refused would lose the answer to a reset if the
# connection were closed at once; so this much more is read and dropped, for so long.
LINGER_BYTES = 16 * 1024**2
LINGER_SECONDS = 5

MISSING_HEAD = Refusal(HTTPStatus.REQUEST_TIMEOUT, "The request's headers took too long.")
MISSING_BODY = Refusal(HTTPStatus.REQUEST_TIMEOUT, "The request's body took too long.")
MALFORMED = Refusal(HTTPStatus.BAD_REQUEST, "The request is not well-formed HTTP/1.1.")
LARGE_HEAD = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    f"The address and the headers are larger than {HTTPChannel.totalHeadersSize:,} bytes.",
)


def too_large() -> Refusal:
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body is larger than {limit:,} bytes; send less at a time.",
    )


class Request(WebRequest):
    """A request whose body is counted while it arrives."""

    def __init__(self, *args: Any) -> None:
        # Twisted would parse forms on the event loop, for a result that daphne does not read.
        super().__init__(*args, parsePOSTFormSubmission=False)
        self.received = 0

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 (Twisted's name)
        self.received += len(data)
        if self.received > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            self.channel.refuse(too_large())
        else:
            super().handleContentChunk(data)

    def process(self) -> Any:
        # daphne would let any client choose the root path, and decodes subprotocols, of which
        # there are none here, as ASCII without asking.
        for name in (b"Daphne-Root-Path", b"Sec-WebSocket-Protocol"):
            self.requestHeaders.removeHeader(name)
        return super().process()

    @property
    def request_id(self) -> str:
        """The id that its headers offer, or a new one each time."""
        offered = self.requestHeaders.getRawHeaders(request_ids.HEADER.encode(), [b""])
        return request_ids.request_id_from(b", ".join(offered).decode("latin-1"))

    def basic_error(self, status: int, status_text: bytes, body: str) -> None:
        """daphne's own errors, as problem details."""
        refusal = Refusal(HTTPStatus(status), body)
        headers = refusal.headers(self.request_id)
        self.handle_reply({"type": "http.response.start", "status": status, "headers": headers})
        self.handle_reply({"type": "http.response.body", "body": refusal.body})


class Channel(HTTPChannel):
    """A connection that is refused and closed where a request goes beyond its bounds."""

    # Any: what Twisted declares of its own interfaces has no `self`.
    transport: Any
    _deadline: Any = None

    def __init__(self) -> None:
        super().__init__()
        self._refused = False
        self._raw = self._dropped = 0
        self._writable = asyncio.Event()
        self._writable.set()

    def connectionMade(self) -> None:  # noqa: N802
        # daphne's factory has set its own.
        self.requestFactory: Any = Request
        super().connectionMade()

    def refuse(self, refusal: Refusal) -> None:
        if self._refused:
            return
        self._refused = True
        peer = getattr(self.getPeer(), "host", "")
        request_id = self.requests[-1].request_id if self.requests else str(uuid4())
        log.info(
            "request refused",
            status=int(refusal.status),
            detail=refusal.detail,
            ip=peer,
            request_id=request_id,
        )
        self.setTimeout(None)
        self.transport.write(refusal.as_bytes(request_id))
        self.transport.loseWriteConnection()
        self._within(LINGER_SECONDS, self.transport.abortConnection)

    async def drained(self) -> None:
        """Return once the client has taken what was written, or is gone or too slow."""
        try:
            async with asyncio.timeout(TAKE_SECONDS):
                await self._writable.wait()
        except TimeoutError:
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        if self._refused:
            self._drop(data)
            return
        if self._deadline is None and not self._handlingRequest:
            self._within(HEAD_SECONDS, self.refuse, MISSING_HEAD)
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:  # noqa: N802
        if self._receivedHeaderSize + len(line) > self.totalHeadersSize:
            self.lineLengthExceeded(line)
        elif not self._refused:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: N802
        self.refuse(LARGE_HEAD)
        self.setRawMode()

    def headerReceived(self, line: bytes) -> bool:  # noqa: N802
        try:
            return bool(super().headerReceived(line))
        except ValueError:
            # Python reads no number of thousands of digits, and no length needs them.
            self.refuse(too_large())
            return False

    def allHeadersReceived(self) -> None:  # noqa: N802
        if self._refused:
            return
        if self.length is not None and self.length > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            # Before `Expect: 100-continue` is answered, so that a polite client sends nothing.
            self.refuse(too_large())
            return
        self._raw = 0
        self._within(BODY_SECONDS, self.refuse, MISSING_BODY)
        super().allHeadersReceived()

    def rawDataReceived(self, data: bytes) -> None:  # noqa: N802
        if self._refused:
            self._drop(data)
            return
        if not self._handlingRequest:
            self._raw += len(data)
            request = self.requests[-1]
        super().rawDataReceived(data)
        if not self._handlingRequest and self._raw - request.received > CHUNK_OVERHEAD:
            self.refuse(too_large())

    def allContentReceived(self) -> None:  # noqa: N802
        if not self._refused:
            self._cancel_deadline()
            super().allContentReceived()

    def connectionLost(self, reason: Any = connectionDone) -> None:  # noqa: N802
        self._cancel_deadline()
        super().connectionLost(reason)

    def pauseProducing(self) -> None:  # noqa: N802
        self._writable.clear()
        super().pauseProducing()

    def resumeProducing(self) -> None:  # noqa: N802
        self._writable.set()
        super().resumeProducing()

    def stopProducing(self) -> None:  # noqa: N802
        self._writable.set()
        super().stopProducing()

    def _respondToBadRequestAndDisconnect(self) -> None:  # noqa: N802
        self.refuse(MALFORMED)

    def _drop(self, data: bytes) -> None:
        self._dropped += len(data)
        if self._dropped > LINGER_BYTES:
            self.transport.pauseProducing()

    def _within(self, seconds: float, function: Any, *args: Any) -> None:
        """In place of the deadline before it."""
        self._cancel_deadline()
        self._deadline = self.callLater(seconds, function, *args)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None
