"""Pages for errors that no view answers."""

import sys

from django.db import connections
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.utils.deprecation import MiddlewareMixin
from django.views import defaults

from wegweiser.problems import (
    CONTENT_TYPE,
    INTERNAL_ERROR,
    PROBLEMS,
    Problem,
    explained,
    problem_body,
)


class ErrorPageMiddleware(MiddlewareMixin):
    """Answer an error of an action with the status that the API answers, as a page."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        known = explained(exception)
        return _page(*known) if known else None


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer what was raised where no view was reached, such as in a middleware.

    A server that is away is told as inside of a view. What nobody expected is a 500.
    """
    error = sys.exception()
    known = explained(error) if isinstance(error, Exception) else None
    if not request.path_info.startswith("/api/"):
        return _page(*known) if known else defaults.server_error(request)
    return _api_problem(*(known or (INTERNAL_ERROR, INTERNAL_ERROR.meaning)))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _without_a_connection_left(defaults.permission_denied(request, exception))


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if request.path_info.startswith("/api/"):
        # No route matches an address with a line break.
        return _api_problem(PROBLEMS[Http404], "No such endpoint; see /api/docs/.")
    return _without_a_connection_left(defaults.page_not_found(request, exception))


def _api_problem(problem: Problem, text: str) -> HttpResponse:
    body = problem_body(problem.status, problem.type, text)
    return JsonResponse(body, status=problem.status, content_type=CONTENT_TYPE)


def _page(problem: Problem, text: str) -> HttpResponse:
    # Without the request: the navigation would ask the server that may be away.
    page = render_to_string("error.html", {"status": problem.status, "text": text})
    return HttpResponse(page, status=problem.status)


def _without_a_connection_left(response: HttpResponse) -> HttpResponse:
    """Close the connection to Postgres that the page's navigation has opened.

    Django renders these pages in a thread that outlives the request, whose end closes no connection
    there; after a restart of Postgres the next such page would fail with it.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
    return response
