"""Notes that a view leaves at its request, for the one place that audits how it was answered."""

from collections.abc import MutableMapping
from typing import Any

from tenants.access.records import Caller

# The META of a Django request, which that of REST framework shares.
Meta = MutableMapping[str, Any]

_CALLER, _RECORDED = "wegweiser.caller", "wegweiser.refusal_recorded"


def note_caller(meta: Meta, caller: Caller) -> None:
    """Say who asks, where the request is refused before it has a user."""
    meta[_CALLER] = caller


def noted_caller(meta: Meta) -> Caller | None:
    return meta.get(_CALLER)


def note_recorded(meta: Meta) -> None:
    """Say that the audit has this refusal already, and knows more of it than its status."""
    meta[_RECORDED] = True


def is_recorded(meta: Meta) -> bool:
    return _RECORDED in meta
