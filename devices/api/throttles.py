"""Limit how often each device may call the API, beside all other callers."""

from django.conf import settings
from rest_framework.request import Request

from devices.api.authentication import DevicePrincipal
from tenants.api.base.throttles import RequestThrottle


class CallerThrottle(RequestThrottle):
    """Limits people, tokens, addresses and devices."""

    def limits(self, request: Request) -> dict[str, int]:
        limits = super().limits(request)
        if isinstance(request.user, DevicePrincipal):
            device = f"device {request.user.device.pk}"
            limits[device] = settings.DEVICE_REQUESTS_PER_MINUTE
        return limits
