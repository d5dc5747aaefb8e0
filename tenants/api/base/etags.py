"""Answer 304 to clients that poll and have the newest answer already."""

from collections.abc import Callable, Collection
from hashlib import sha256
from typing import Any, TypeVar

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response, patch_cache_control, patch_vary_headers
from django.utils.http import parse_etags
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

Row = TypeVar("Row")


class EtagMiddleware:
    """Tags what the API answers to a GET, unless nobody may store it.

    The tag is weak, since a proxy may compress the answer, and made of the content, so that another
    role's answer has another one. A cache has to ask again each time, and must not share.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        if not isinstance(response, HttpResponse) or not _may_be_stored(request, response):
            return response
        if not response.has_header("ETag"):
            response["ETag"] = _tag(response.content)
        patch_cache_control(response, private=True, no_cache=True)
        patch_vary_headers(response, ["Authorization", "Cookie"])
        found = get_conditional_response(request, etag=response["ETag"], response=response)
        return found or response


def answer_unless_known(
    request: Request,
    serializer: Callable[[Row], Any],
    find: Callable[[Collection[str]], Row],
    large: Collection[str],
) -> Response:
    """Answer with a row, or 304 to a caller who has it as it is now.

    The tag is made without the `large` fields, which change only together with others, so for a 304
    they are not even loaded: `find` defers them.
    """
    offered = parse_etags(request.headers.get("If-None-Match", ""))
    if offered:
        shown = serializer(find(large))
        for name in large:
            shown.fields.pop(name)
        etag = _tag(JSONRenderer().render(shown.data))
        if etag in offered:
            return Response(status=304, headers={"ETag": etag})
    data = serializer(find(())).data
    small = {name: value for name, value in data.items() if name not in large}
    return Response(data, headers={"ETag": _tag(JSONRenderer().render(small))})


def _may_be_stored(request: HttpRequest, response: HttpResponse) -> bool:
    if not request.path_info.startswith("/api/") or request.method != "GET":
        return False
    forbidden = "no-store" in response.get("Cache-Control", "")
    return response.status_code in (200, 304) and not forbidden


def _tag(content: bytes) -> str:
    return f'W/"{sha256(content).hexdigest()[:32]}"'
