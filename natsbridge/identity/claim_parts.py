"""Build the pieces of claims that several kinds of account share, as plain JSON values."""

from collections.abc import Iterable
from typing import Any

UNLIMITED = -1


def account(
    *,
    limits: dict[str, Any],
    imports: Iterable[dict[str, Any]] = (),
    exports: Iterable[dict[str, Any]] = (),
) -> dict[str, Any]:
    return {
        "type": "account",
        "imports": list(imports),
        "exports": list(exports),
        "limits": limits,
        "default_permissions": {"pub": {}, "sub": {}},
    }


def limits(**changed: int | bool) -> dict[str, Any]:
    """Return every limit: the server reads some omitted ones as 0, others as unlimited."""
    return {
        "subs": UNLIMITED,
        "data": UNLIMITED,
        "payload": UNLIMITED,
        "imports": UNLIMITED,
        "exports": UNLIMITED,
        "wildcards": True,
        "disallow_bearer": True,
        "conn": UNLIMITED,
        "leaf": 0,
        "mem_storage": 0,
        "disk_storage": 0,
        "streams": 0,
        "consumer": 0,
        "max_ack_pending": UNLIMITED,
        "mem_max_stream_bytes": 0,
        "disk_max_stream_bytes": 0,
        "max_bytes_required": False,
    } | changed


def exported(name: str, subject: str, kind: str) -> dict[str, Any]:
    return {"name": name, "subject": subject, "type": kind}


def imported(name: str, subject: str, local: str, *, kind: str = "service") -> dict[str, Any]:
    return {"name": name, "subject": subject, "local_subject": local, "type": kind}
