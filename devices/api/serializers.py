"""Check what several resources take; each limit is that of the column or of the broker."""

from datetime import datetime
from typing import Any

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from devices.commands.rules import json_values
from devices.errors import UnfitJson
from tenants.rules.durations import parse_overlap

# Of a command. They never change, or only together with `finished_at`.
LARGE_FIELDS = ("parameters", "result")


class JsonObjectField(serializers.DictField):
    """Accept a JSON object that can be stored and sent to agents."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        value: dict[str, Any] = super().to_internal_value(data)
        try:
            json_values.check(value)
        except UnfitJson as error:
            raise serializers.ValidationError(str(error)) from error
        return value


@extend_schema_field(OpenApiTypes.STR)
class DeadlineField(serializers.CharField):
    """Turn how long a command may wait into the moment of its deadline."""

    def to_internal_value(self, data: Any) -> datetime:  # type: ignore[override]
        try:
            length = parse_overlap(super().to_internal_value(data))
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from error
        if not length:
            raise serializers.ValidationError("At least one second.")
        return timezone.now() + length

    def to_representation(self, value: datetime) -> str:  # type: ignore[override]
        return str(serializers.DateTimeField().to_representation(value))


class CommandNameField(serializers.RegexField):
    def __init__(self, **options: Any) -> None:
        super().__init__(
            r"\A[A-Za-z0-9_.:-]{1,100}\Z",
            error_messages={"invalid": "A name of at most 100 letters, digits, and _ . : -"},
            **options,
        )


class NewCommandSerializer(serializers.Serializer[Any]):
    command = CommandNameField()
    parameters = JsonObjectField(required=False, default=dict)
    deadline = DeadlineField(
        required=False,
        help_text="How long it may wait: seconds, or 90m, 24h, at most 30d; the default is "
        "COMMAND_DEADLINE_SECONDS.",
    )
