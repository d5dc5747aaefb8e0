"""Authenticate devices that call the API: `Authorization: Bearer DEVICE_TOKEN`."""

from dataclasses import dataclass

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from devices.enrolment.actions import note_token_use
from devices.enrolment.naming import device_named
from devices.models import Device
from tenants.access.notes import note_caller
from tenants.access.records import Caller
from tenants.api.base.authentication import count_failure
from tenants.audit.writer import device_actor
from tenants.throttle import refused_tokens


@dataclass(frozen=True)
class DevicePrincipal:
    """The `request.user` of a device."""

    device: Device
    is_authenticated: bool = True
    is_active: bool = True
    pk: None = None


class DeviceTokenAuthentication(BaseAuthentication):
    """Set `request.user` to a DevicePrincipal."""

    def authenticate(self, request: Request) -> tuple[DevicePrincipal, None] | None:
        scheme, _, token = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        found = (
            Device.objects.holding_token(token.strip().decode("latin-1"))
            .select_related("tenant", "group__organisation", "connectivity")
            .first()
        )
        if found is None:
            principal = device_named(request.parser_context["kwargs"].get("uuid"))
            count_failure(request, refused_tokens.DEVICE_TOKEN, principal)
            raise AuthenticationFailed("The device token is not valid.")
        note_caller(request.META, device_caller(found))
        if found.refusal:
            raise PermissionDenied(found.refusal)
        if found.tenant.suspended_at:
            raise PermissionDenied("This device's tenant is suspended.")
        note_token_use(found)
        return DevicePrincipal(found), None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def device_caller(device: Device) -> Caller:
    """Return the device as the audit of access has it."""
    return Caller(device_actor(device.pk), frozenset({device.tenant_id}), device.pk)
