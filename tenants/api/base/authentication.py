"""Authenticate people who call the API: `Authorization: Token KEY`."""

from knox.auth import TokenAuthentication
from rest_framework.authentication import get_authorization_header
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.request import Request

from tenants.access.notes import note_recorded
from tenants.models import ApiToken, User
from tenants.throttle import refused_tokens
from tenants.throttle.refused_tokens import Principal


class PersonTokenAuthentication(TokenAuthentication):
    """Set `request.user` to a User and `request.auth` to its ApiToken."""

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


def count_failure(request: Request, kind: str, principal: Principal | None) -> None:
    """Count a wrong token or key. Raises Throttled after too many, with the seconds to wait."""
    match = request.resolver_match
    note_recorded(request.META)
    wait = refused_tokens.record(kind, match.route if match else "", principal)
    if wait:
        raise Throttled(wait, f"Too many wrong {kind}s from your network or for this name.")
