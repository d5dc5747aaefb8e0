"""The header that makes a request safe to send twice."""

from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

NAME = "Idempotency-Key"
MAX_LENGTH = 100
KEY = OpenApiParameter(
    NAME,
    str,
    OpenApiParameter.HEADER,
    description="At most 100 characters. A second request of the same person with the same key and "
    "the same content returns what the first one issued; with different content it is "
    "refused.",
)


def key_of(request: Request) -> str:
    """Return the key, empty without the header. Raises ValidationError."""
    key = request.headers.get(NAME, "")
    if len(key) > MAX_LENGTH or not key.isprintable():
        raise ValidationError({NAME: f"At most {MAX_LENGTH} printable characters."})
    return key
