"""Answer 429 to who has offered too many wrong tokens or keys."""

from rest_framework.exceptions import Throttled
from rest_framework.request import Request

from devices.enrolment import refused_tokens
from devices.enrolment.refused_tokens import Principal


def count_failure(request: Request, kind: str, principal: Principal | None) -> None:
    """Raises Throttled, with the seconds to wait; otherwise the caller says what is wrong."""
    match = request.resolver_match
    wait = refused_tokens.record(kind, match.route if match else "", principal)
    if wait:
        raise Throttled(wait, f"Too many wrong {kind}s from your network or for this name.")
