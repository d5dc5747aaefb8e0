"""Record where requests come from, and where sessions are used."""

from collections.abc import Callable
from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

from tenants.actions.web_sessions import record_session_use
from tenants.models import User
from tenants.origin import Origin, acting


class OriginMiddleware:
    """Sets the origin of what a request does, for the audit."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with acting(Origin(via=_via(request.path_info), address=address_of(request))):
            return self._get_response(request)


class WebSessionMiddleware:
    """Records where the sessions of people are used.

    It looks at the session after the request, since a login or a new password changes its key.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        session = request.session
        # A request that did not ask who is logged in has to work without the database.
        if session.accessed and session.session_key and isinstance(request.user, User):
            place = {
                "address": address_of(request),
                "user_agent": request.headers.get("User-Agent", "").replace("\0", ""),
            }
            record_session_use(request.user, session.session_key, **place)
        return response


def address_of(request: HttpRequest) -> str:
    """Return the caller's address: the last of CLIENT_ADDRESS_HEADER, or else the connection's.

    The caller may have invented the others of that header.
    """
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
