"""Notes that a view leaves at its request, for the one place that audits how it was answered."""

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from itertools import islice
from typing import Any
from uuid import UUID

from tenants.access.records import Caller

# The META of a Django request, which that of REST framework shares.
Meta = MutableMapping[str, Any]

_CALLER, _RECORDED, _NAMED = (
    *("wegweiser.caller", "wegweiser.refusal_recorded"),
    "wegweiser.named",
)
# Of the UUIDs in a body, which may have thousands.
MOST_NAMED = 50
UUID_LENGTH = 36


def note_caller(meta: Meta, caller: Caller) -> None:
    """Say who asks, where the request is refused before it has a user."""
    meta[_CALLER] = caller


def noted_caller(meta: Meta) -> Caller | None:
    return meta.get(_CALLER)


def note_named(meta: Meta, sent: object) -> None:
    """Say what a refused request has sent; of this the UUIDs are kept."""
    meta[_NAMED] = list(islice(uuids_in(sent), MOST_NAMED))


def noted_names(meta: Meta) -> list[UUID]:
    return meta.get(_NAMED, [])


def uuids_in(sent: object) -> Iterator[UUID]:
    match sent:
        case Mapping():
            for each in sent.values():
                yield from uuids_in(each)
        case list():
            for each in sent:
                yield from uuids_in(each)
        case str() if len(sent) == UUID_LENGTH:
            with suppress(ValueError):
                yield UUID(sent)


def note_recorded(meta: Meta) -> None:
    """Say that the audit has this refusal already, and knows more of it than its status."""
    meta[_RECORDED] = True


def is_recorded(meta: Meta) -> bool:
    return _RECORDED in meta
