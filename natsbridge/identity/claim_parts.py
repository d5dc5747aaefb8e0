"""What claims are made of, as plain JSON values: the pieces that several kinds of account share."""

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
    """Every limit by name: some that are left out mean 0 to the server, others unlimited."""
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
