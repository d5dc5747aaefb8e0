"""Says of each request where it comes from, for whoever records what it does."""

from collections.abc import Callable
from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

from tenants.actions.web_sessions import record_session_use
from tenants.models import User
from tenants.origin import Origin, acting


class OriginMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with acting(Origin(via=_via(request.path_info), address=address_of(request))):
            return self._get_response(request)


class WebSessionMiddleware:
    """Notes where the sessions of people are used; a password change or login has its new key."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        session = request.session
        # What has not asked who it is needs no database, and is to do without one.
        if session.accessed and session.session_key and isinstance(request.user, User):
            place = {
                "address": address_of(request),
                "user_agent": request.headers.get("User-Agent", "").replace("\0", ""),
            }
            record_session_use(request.user, session.session_key, **place)
        return response


def address_of(request: HttpRequest) -> str:
    """Of whoever called: the last in CLIENT_ADDRESS_HEADER, since the first ones may be the
    caller's own invention, or the connection's."""
    if settings.CLIENT_ADDRESS_HEADER:
        named = request.headers.get(settings.CLIENT_ADDRESS_HEADER, "").rpartition(",")[2].strip()
        if _is_address(named):
            return named
    return request.META.get("REMOTE_ADDR") or ""


def _via(path: str) -> str:
    match path.split("/", 2)[1:2]:
        case ["admin"]:
            return "admin"
        case ["api"]:
            return "api"
    return "web"


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
