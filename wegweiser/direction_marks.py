"""Text that devices and older rows bring along cannot change the direction of what is around it."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseBase

from natsbridge.protocol.escaping import escape_marks


class DirectionMarksMiddleware:
    """Spells out marks of writing direction in every page, wherever they come from: a name with
    one inside reads otherwise than it is written, and so does the sentence that it stands in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        if isinstance(response, HttpResponse) and _is_page(response):
            response.content = escape_marks(response.content)
        return response


def _is_page(response: HttpResponse) -> bool:
    return str(response.get("Content-Type", "")).startswith("text/html")
