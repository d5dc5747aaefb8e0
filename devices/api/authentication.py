"""Who is calling: a person with an API token, or a device with its own token."""

from dataclasses import dataclass

from knox.auth import TokenAuthentication
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from devices.api.refusals import count_failure
from devices.enrolment import refused_tokens
from devices.models import Device
from tenants.models import ApiToken, User


class PersonTokenAuthentication(TokenAuthentication):
    """`Authorization: Token KEY`; `request.user` is a User, `request.auth` its ApiToken."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        try:
            found: tuple[User, ApiToken] | None = super().authenticate(request)
        except AuthenticationFailed:
            _, _, offered = get_authorization_header(request).partition(b" ")
            principal = refused_tokens.token_named(offered.strip().decode("latin-1"))
            count_failure(request, refused_tokens.API_TOKEN, principal)
            raise
        return found

    def authenticate_credentials(self, token: bytes) -> tuple[User, ApiToken]:
        if not token.isascii():
            raise AuthenticationFailed("Invalid token.")
        user, api_token = super().authenticate_credentials(token)
        return user, api_token


@dataclass(frozen=True)
class DevicePrincipal:
    """What `request.user` is when a device calls."""

    device: Device
    is_authenticated: bool = True
    is_active: bool = True
    pk: None = None


class DeviceTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer DEVICE_TOKEN`; `request.user` is a DevicePrincipal."""

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
            named = request.parser_context["kwargs"].get("uuid")
            principal = refused_tokens.device_named(named)
            count_failure(request, refused_tokens.DEVICE_TOKEN, principal)
            raise AuthenticationFailed("The device token is not valid.")
        if found.revoked_at:
            raise PermissionDenied("This device is revoked; an admin of its tenant can undo it.")
        if found.tenant.suspended_at:
            raise PermissionDenied("This device's tenant is suspended.")
        return DevicePrincipal(found), None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
