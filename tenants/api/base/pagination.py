"""Cursor pages: `{next, previous, results}`, each as fast as the first, whatever its place."""

from typing import Any
from urllib.parse import urlencode

from django.core import signing
from django.db.models import Model, Q
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tenants.api.base.filters import ordering_of

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
_signer = signing.Signer(salt="api.cursor")


class CursorPages(BasePagination):
    """Page by the values of the last row, so that rows which come and go shift no page.

    REST framework's own cursor counts rows with an equal first value, up to 1,000 of them.
    """

    def paginate_queryset(
        self, queryset: Any, request: Request, view: APIView | None = None
    ) -> list[Any]:
        self.request, self.ordering = request, ordering_of(request, view)
        limit = _limit(request)
        self.backwards, position = self._cursor()
        order = [_reversed(each) for each in self.ordering] if self.backwards else self.ordering
        if position is not None:
            queryset = queryset.filter(_after(order, position))
        found = list(queryset.order_by(*order)[: limit + 1])
        self.more, self.moved = len(found) > limit, position is not None
        self.rows = found[:limit]
        if self.backwards:
            self.rows.reverse()
        return self.rows

    def get_paginated_response(self, data: Any) -> Response:
        before, after = (self.more, True) if self.backwards else (self.moved, self.more)
        return Response(
            {
                "next": self._link(self.rows[-1], backwards=False) if after and self.rows else None,
                "previous": self._link(self.rows[0], backwards=True)
                if before and self.rows
                else None,
                "results": data,
            }
        )

    def _cursor(self) -> tuple[bool, list[str] | None]:
        text = self.request.query_params.get("cursor")
        if text is None:
            return False, None
        try:
            ordering, backwards, position = _signer.unsign_object(text)
        except (signing.BadSignature, ValueError) as error:
            raise ValidationError({"cursor": "Not a cursor of this API: take `next`."}) from error
        if ordering != self.ordering:
            raise ValidationError({"cursor": "This cursor is for another ordering."})
        return backwards, position

    def _link(self, row: Model, *, backwards: bool) -> str:
        position = [_value(row, name.lstrip("-")) for name in self.ordering]
        cursor = _signer.sign_object([self.ordering, backwards, position])
        query = [(name, value) for name, value in self._query() if name != "cursor"]
        path = f"{self.request.path}?{urlencode([*query, ('cursor', cursor)])}"
        return self.request.build_absolute_uri(path)

    def _query(self) -> list[tuple[str, str]]:
        return [
            (name, value) for name, values in self.request.query_params.lists() for value in values
        ]

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "format": "uri", "nullable": True}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
        return [
            _parameter("limit", "How many rows a page has.", limit),
            _parameter("cursor", "From `next` or `previous`.", {"type": "string"}),
        ]


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_LIMIT:
        return int(text)
    raise ValidationError({"limit": f"Not a number from 1 to {MAX_LIMIT}."})


def _after(order: list[str], position: list[str]) -> Q:
    """Select the rows that follow the position."""
    first, *others = order
    name, follows = first.lstrip("-"), "lt" if first.startswith("-") else "gt"
    later = Q(**{f"{name}__{follows}": position[0]})
    if not others:
        return later
    # The range alone is what an index answers.
    within = Q(**{f"{name}__{follows}e": position[0]})
    return within & (later | Q(**{name: position[0]}) & _after(others, position[1:]))


def _value(row: Any, path: str) -> str:
    for name in path.split("__"):
        row = getattr(row, name)
    return str(row)


def _reversed(field: str) -> str:
    return field[1:] if field.startswith("-") else f"-{field}"


def _parameter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": description,
        "schema": schema,
    }
