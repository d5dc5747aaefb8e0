"""What the endpoints take; every limit here is that of the column or of the broker."""

from datetime import datetime
from typing import Any

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from devices.commands.rules import json_values
from devices.errors import UnfitJson
from natsbridge.identity.claims import is_public_user_key
from tenants.names import validate_name
from tenants.rules.durations import parse_overlap


class JsonObjectField(serializers.DictField):
    """A JSON object that can be stored and sent on; see `devices.commands.rules.json_values`."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        value: dict[str, Any] = super().to_internal_value(data)
        try:
            json_values.check(value)
        except UnfitJson as error:
            raise serializers.ValidationError(str(error)) from error
        return value


class NkeyField(serializers.CharField):
    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=56, **options)

    def to_internal_value(self, data: Any) -> str:
        value = super().to_internal_value(data)
        if not is_public_user_key(value):
            raise serializers.ValidationError("Not the public key of an NKey user (U…).")
        return value


class UpgradeSerializer(serializers.Serializer[Any]):
    nkey_public = NkeyField(
        required=False, help_text="Without it the device gets a username and a password."
    )


class RegistrationSerializer(serializers.Serializer[Any]):
    groupuuid = serializers.UUIDField()
    devicename = serializers.CharField(max_length=255, validators=[validate_name])
    enrollment_key = serializers.CharField(max_length=200)
    nkey_public = NkeyField(required=False)
    hardwareinfo = JsonObjectField(required=False, default=dict)
    timestamp = serializers.IntegerField(required=False, min_value=0, max_value=2**53)
    signature = serializers.CharField(required=False, max_length=200)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("signature" in attrs) != ("timestamp" in attrs) and "signature" in attrs:
            raise serializers.ValidationError(
                {"timestamp": "A signature needs the timestamp it was made with."}
            )
        if "signature" in attrs and "nkey_public" not in attrs:
            raise serializers.ValidationError(
                {"nkey_public": "A signature needs the public key that it is checked with."}
            )
        return attrs


@extend_schema_field(OpenApiTypes.STR)
class DeadlineField(serializers.CharField):
    """From how long a command may wait to the moment when it no longer does."""

    def to_internal_value(self, data: Any) -> datetime:  # type: ignore[override]
        try:
            length = parse_overlap(super().to_internal_value(data))
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from error
        if not length:
            raise serializers.ValidationError("At least one second.")
        return timezone.now() + length


class CommandSerializer(serializers.Serializer[Any]):
    command = serializers.RegexField(
        r"\A[A-Za-z0-9_.:-]{1,100}\Z",
        error_messages={"invalid": "A name of at most 100 letters, digits, and _ . : -"},
    )
    parameters = JsonObjectField(required=False, default=dict)
    deadline = DeadlineField(
        required=False,
        help_text="How long it may wait: seconds, or 90m, 24h, 30d, which is the most; "
        "default COMMAND_DEADLINE_SECONDS.",
    )


class RecentMetricsSerializer(serializers.Serializer[Any]):
    metric = serializers.RegexField(r"\A[A-Za-z0-9_-]{1,64}\Z", required=False)
    limit = serializers.IntegerField(required=False, min_value=1, max_value=10_000)
