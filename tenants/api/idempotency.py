"""The header with which a request may be sent twice and is carried out once."""

from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

NAME = "Idempotency-Key"
MAX_LENGTH = 100
KEY = OpenApiParameter(
    NAME,
    str,
    OpenApiParameter.HEADER,
    description="At most 100 characters. The same person's second request with the same key and "
    "the same content is answered with what the first one issued; with other content it is "
    "refused.",
)


def key_of(request: Request) -> str:
    """Empty without the header. Raises ValidationError."""
    key = request.headers.get(NAME, "")
    if len(key) > MAX_LENGTH or not key.isprintable():
        raise ValidationError({NAME: f"At most {MAX_LENGTH} printable characters."})
    return key
