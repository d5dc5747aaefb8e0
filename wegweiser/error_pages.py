"""Pages for errors that Django answers by itself."""

from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.views import defaults


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
