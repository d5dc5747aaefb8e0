"""Every endpoint and method below /api/, read from the project's own addresses."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_PARAMETER = re.compile(r"<[^>]+>")


def endpoints() -> list[str]:
    """Return each as `GET /api/groups/{groups}`; an id is named by the part before it."""
    served = dict(_addresses(get_resolver(), "/"))
    return sorted(
        f"{method} {path}"
        for path, callback in served.items()
        # What is served with and without the final slash is one endpoint.
        if path.startswith("/api/") and path.rstrip("/") not in served.keys() - {path}
        for method in _methods(callback)
    )


def _addresses(resolver: URLResolver, before: str) -> Iterator[tuple[str, Any]]:
    for pattern in resolver.url_patterns:
        path = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _addresses(pattern, path)
        elif isinstance(pattern, URLPattern):
            yield _named(path), pattern.callback


def _named(path: str) -> str:
    parts = _PARAMETER.sub("{}", path).split("/")
    return "/".join(part.format(f"{{{before}}}") for before, part in pairwise(["", *parts]))


def _methods(callback: Any) -> Iterator[str]:
    view = getattr(callback, "cls", None) or getattr(callback, "view_class", None)
    actions = getattr(callback, "actions", None)
    for method in METHODS:
        name = method.lower()
        if name in view.http_method_names and (
            name in actions if actions is not None else hasattr(view, name)
        ):
            yield method
