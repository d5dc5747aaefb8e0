"""Pack and unpack dead letters, as the dead-letter queue stores them.

A dead letter is one line of JSON, the label, followed by the original body. The label also has the
original headers, since the broker would act on some of them.
"""

from datetime import datetime

import msgspec

from natsbridge.errors import MalformedMessage
from natsbridge.protocol.envelope import RawMessage
from natsbridge.protocol.storable import storable

_DETAIL_CHARACTERS = 16_000
_HEADER_BYTES = 32_000
_REASON_CHARACTERS = 40
_SUBJECT_CHARACTERS = 512


class Label(msgspec.Struct, frozen=True):
    """Where a dead letter came from, and why it could not be used.

    `source` is the part of the subscriber that rejected it after so many `attempts`. `whole_size`
    is the size of a body that was cut, and 0 for one that is complete.
    """

    source: str
    subject: str
    headers: dict[str, str]
    received_at: datetime
    reason: str
    detail: str
    attempts: int = 1
    whole_size: int = 0


_label = msgspec.json.Decoder(Label)


def pack(
    message: RawMessage, *, source: str, reason: str, detail: str, attempts: int, room: int
) -> bytes:
    """Return the packed dead letter, the body cut so that it is no longer than `room` bytes."""
    label = Label(
        source=source,
        subject=storable(message.subject)[:_SUBJECT_CHARACTERS],
        headers=_headers(message),
        received_at=message.received_at,
        reason=reason[:_REASON_CHARACTERS],
        # The end of a traceback says more than its beginning.
        detail=storable(detail)[-_DETAIL_CHARACTERS:],
        attempts=attempts,
    )
    packed = msgspec.json.encode(label) + b"\n" + message.data
    if len(packed) <= room:
        return packed
    label = msgspec.structs.replace(label, whole_size=len(message.data))
    return (msgspec.json.encode(label) + b"\n" + message.data)[:room]


def unpack(data: bytes) -> tuple[Label, bytes]:
    """Return the label and the body, or raise MalformedMessage."""
    line, _, body = data.partition(b"\n")
    try:
        return _label.decode(line), body
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"Not a dead letter: {error}", reason="unreadable") from error


def _headers(message: RawMessage) -> dict[str, str]:
    headers = {storable(name): storable(value) for name, value in message.headers.items()}
    size = sum(len(name) + len(value) for name, value in headers.items())
    if size > _HEADER_BYTES:
        return {"(removed)": f"{len(headers)} headers of {size} characters"}
    return headers
