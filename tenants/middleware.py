"""Name each request by an id, and record where requests come from and where sessions are used."""

from collections.abc import Callable

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

from tenants.actions.web_sessions import record_session_use
from tenants.models import User
from tenants.origin import Origin, acting, caller_address
from tenants.rules import request_ids

# Where Django keeps the header of that name.
_REQUEST_ID = "HTTP_X_REQUEST_ID"


class RequestIdMiddleware:
    """Gives each request an id, and each response the id of its request.

    The first of all, so that static files and errors of the other middleware have it too. The
    others read it from the request's header, from which one that is not well-formed is gone.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request_id = request_ids.request_id_from(request.META.get(_REQUEST_ID, ""))
        request.META[_REQUEST_ID] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = self._get_response(request)
        response[request_ids.HEADER] = request_id
        return response


class OriginMiddleware:
    """Sets the origin of what a request does, for the audit."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        origin = Origin(
            via=_via(request.path_info),
            address=address_of(request),
            request_id=request.META.get(_REQUEST_ID, ""),
        )
        with acting(origin):
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
    forwarded = request.headers.get(settings.CLIENT_ADDRESS_HEADER or "-", "")
    return caller_address(forwarded, request.META.get("REMOTE_ADDR") or "")


def _via(path: str) -> str:
    match path.split("/", 2)[1:2]:
        case ["admin"]:
            return "admin"
        case ["api"]:
            return "api"
    return "web"
