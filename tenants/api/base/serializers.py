"""Fields and serializers that several resources take; each limit is that of the column."""

from datetime import timedelta
from typing import Any, cast

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from tenants.forms.credentials import REASON_MAX
from tenants.rules.durations import USUAL_OVERLAP, parse_overlap

UNKNOWN_NAMED = 20


class StrictSerializer(serializers.Serializer[Any]):
    """Reject unknown fields by name, so that a mistyped one is not silently ignored.

    By itself it stands for an empty body.
    """

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        value: dict[str, Any] = super().to_internal_value(data)
        unknown = sorted(set(map(str, data)) - set(self.fields))
        if unknown:
            raise serializers.ValidationError(
                {name[:100]: "Unknown field." for name in unknown[:UNKNOWN_NAMED]}
            )
        return value


class BoundedListField(serializers.ListField):
    """Check the number of items before any item, since an error for each would be expensive."""

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
