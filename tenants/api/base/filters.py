"""Filters of lists: filter sets, search and ordering. An unknown query parameter is refused."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError as FormError
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django_filters import IsoDateTimeFilter, ModelChoiceFilter
from django_filters.fields import IsoDateTimeField
from django_filters.rest_framework import DjangoFilterBackend
from django_filters.widgets import SuffixedMultiWidget
from rest_framework.exceptions import ValidationError
from rest_framework.filters import BaseFilterBackend, SearchFilter
from rest_framework.request import Request
from rest_framework.views import APIView

from tenants.api.base.permissions import reachable

UNKNOWN_NAMED = 20
SEARCH_LENGTH = 200


class VisibleFilter(ModelChoiceFilter):
    """Filter by a related row that the caller may see; another tenant's is an unknown one."""

    def __init__(self, model: type[Model], **kwargs: Any) -> None:
        self.related: Any = model
        super().__init__(queryset=self.visible, **kwargs)

    def visible(self, request: HttpRequest | None) -> QuerySet[Any]:
        if request is None:
            return self.related.objects.none()
        context = getattr(request, "parser_context", None) or {}
        return reachable(self.related, request, context.get("view"))


class MomentField(IsoDateTimeField):
    """Accept ISO 8601, and turn it into UTC: Postgres refuses offsets of 16 hours and more."""

    def to_python(self, value: Any) -> datetime | None:
        try:
            moment: datetime | None = super().to_python(value)
            return moment and moment.astimezone(UTC)
        except OverflowError as error:
            raise FormError("Not a moment between the years 1 and 9999.") from error


class MomentFilter(IsoDateTimeFilter):
    field_class = MomentField


class FilterSetBackend(DjangoFilterBackend):
    """Filter by the view's `filterset_class`, which pages use as well."""

    def parameters(self, request: Request, view: APIView) -> set[str]:
        """Return the query parameters that the filter set reads."""
        filters = self.get_filterset(request, view.queryset, view)  # type: ignore[attr-defined]
        found: set[str] = set()
        for name, field in filters.form.fields.items() if filters else ():
            widget = field.widget
            if isinstance(widget, SuffixedMultiWidget):
                found |= {widget.suffixed(name, suffix) for suffix in widget.suffixes}
            else:
                found.add(name)
        return found


class Search(SearchFilter):
    """Search in the view's `search_fields`: each word must be in one of them."""

    search_description = "Words, each of which must be found."

    def get_search_terms(self, request: Request) -> list[str]:
        text = request.query_params.get(self.search_param, "")
        if len(text) > SEARCH_LENGTH or "\0" in text:
            raise ValidationError({self.search_param: f"At most {SEARCH_LENGTH} characters."})
        return list(super().get_search_terms(request))


class Ordering(BaseFilterBackend):
    """Describe `ordering`; the pages order the rows, since a cursor depends on it."""

    def filter_queryset(
        self, request: Request, queryset: QuerySet[Any], view: APIView
    ) -> QuerySet[Any]:
        return queryset

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        choices = [sign + name for name in view.ordering_fields for sign in ("", "-")]
        return [
            {
                "name": "ordering",
                "in": "query",
                "required": False,
                "description": "A field, with - before it for descending.",
                "schema": {"type": "string", "enum": choices, "default": view.ordering},
            }
        ]


def ordering_of(request: Request, view: Any) -> list[str]:
    """Return the fields to order by: the one that is asked for, and the primary key."""
    wanted = request.query_params.get("ordering", view.ordering)
    name = wanted.removeprefix("-")
    if name not in view.ordering_fields:
        choices = ", ".join(view.ordering_fields)
        raise ValidationError({"ordering": f"Unknown field; choose from {choices}, or -{name}."})
    key = view.queryset.model._meta.pk.name
    if name == key:
        return [wanted]
    return [wanted, f"-{key}" if wanted.startswith("-") else key]


def refuse_unknown_parameters(request: Request, known: Iterable[str]) -> None:
    """Raise ValidationError with the name of each query parameter that is not known."""
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        raise ValidationError(
            {name[:100]: "Unknown parameter." for name in unknown[:UNKNOWN_NAMED]}
        )
