"""What the endpoints of several resources take; each limit is that of the column."""

from datetime import timedelta
from typing import Any, cast

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from tenants.forms.credentials import REASON_MAX
from tenants.rules.durations import USUAL_OVERLAP, parse_overlap

UNKNOWN_NAMED = 20


class StrictSerializer(serializers.Serializer[Any]):
    """Names each field that it does not know, so that a mistyped one is not silently left out.
    By itself: a body with nothing in it."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        value: dict[str, Any] = super().to_internal_value(data)
        unknown = sorted(set(map(str, data)) - set(self.fields))
        if unknown:
            raise serializers.ValidationError(
                {name[:100]: "There is no such field." for name in unknown[:UNKNOWN_NAMED]}
            )
        return value


class BoundedListField(serializers.ListField):
    """Counts its items before it looks at any, since each wrong one costs more than it says."""

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list) and self.max_length and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return super().to_internal_value(data)


class ReasonSerializer(StrictSerializer):
    reason = serializers.CharField(max_length=REASON_MAX)


@extend_schema_field(OpenApiTypes.STR)
class OverlapField(serializers.CharField):
    def to_internal_value(self, data: Any) -> timedelta:  # type: ignore[override]
        try:
            return parse_overlap(super().to_internal_value(data))
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from error


class OverlapSerializer(StrictSerializer):
    overlap = OverlapField(
        required=False,
        default=cast(str, USUAL_OVERLAP),
        help_text="Seconds, or 90m, 24h, 7d; default 24h.",
    )
