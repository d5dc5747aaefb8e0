"""The header that makes a request safe to send twice."""

from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from tenants.actions.idempotency import IdempotencyKey

NAME = "Idempotency-Key"
MAX_LENGTH = 100
KEY = OpenApiParameter(
    NAME,
    str,
    OpenApiParameter.HEADER,
    description="At most 100 characters. For 24 hours, a second request of the same caller with "
    "the same key and the same content has the outcome of the first one; with "
    "different content it is refused (422).",
)


def key_of(request: Request) -> IdempotencyKey | None:
    """Return the key together with what is asked for: the address and the body. Return None without
    the header. Raise ValidationError."""
    key = request.headers.get(NAME, "")
    if len(key) > MAX_LENGTH or not key.isprintable():
        raise ValidationError({NAME: f"At most {MAX_LENGTH} printable characters."})
    if not key:
        return None
    return IdempotencyKey.of(key, request.method, request.path.rstrip("/"), request.data)
