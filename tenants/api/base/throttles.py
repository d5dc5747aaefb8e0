"""Limit how often people, their tokens, devices and addresses may call the API."""

from typing import Any

from django.conf import settings
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from tenants.models import ApiToken, User
from tenants.origin import current_origin
from tenants.throttle import requests


class RequestThrottle(BaseThrottle):
    """Answers 429 to who asks too often. A caller who is known counts beside its address, whose
    limit is for all the agents and people behind it."""

    def allow_request(self, request: Request, view: Any) -> bool:
        limits = self.limits(request)
        found = requests.excess(limits)
        if found is None:
            return True
        kind = found.caller.partition(" ")[0]
        raise Throttled(
            found.wait,
            f"Too many requests of this {kind}: it may make {limits[found.caller]:,} a minute.",
        )

    def limits(self, request: Request) -> dict[str, int]:
        """Return how many requests a minute each of the request's callers may make."""
        limits = {f"address {current_origin().address}": settings.ADDRESS_REQUESTS_PER_MINUTE}
        if isinstance(request.user, User):
            limits[f"person {request.user.pk}"] = settings.PERSON_REQUESTS_PER_MINUTE
        if isinstance(request.auth, ApiToken):
            limits[f"token {request.auth.pk}"] = settings.TOKEN_REQUESTS_PER_MINUTE
        return limits
