"""Pages for errors that no view answers."""

from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.deprecation import MiddlewareMixin
from django.views import defaults

from wegweiser.problems import explained


class ErrorPageMiddleware(MiddlewareMixin):
    """Answer an error of an action with the status that the API answers, as a page."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        known = explained(exception)
        if known is None:
            return None
        problem, text = known
        # Without the request: the navigation would ask the server that may be away.
        page = render_to_string("error.html", {"status": problem.status, "text": text})
        return HttpResponse(page, status=problem.status)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _without_a_connection_left(defaults.permission_denied(request, exception))


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _without_a_connection_left(defaults.page_not_found(request, exception))


def _without_a_connection_left(response: HttpResponse) -> HttpResponse:
    """Close the connection to Postgres that the page's navigation has opened.

    Django renders these pages in a thread that outlives the request, whose end closes no connection
    there; after a restart of Postgres the next such page would fail with it.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
    return response
