"""What the endpoints take; every limit here is that of the column or of the broker."""

from datetime import datetime, timedelta
from typing import Any, cast

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from devices.commands.rules import json_values
from devices.errors import UnfitJson
from natsbridge.identity.claims import is_public_user_key
from tenants.forms.credentials import REASON_MAX
from tenants.models import Credential
from tenants.names import validate_name
from tenants.rules.durations import USUAL_OVERLAP, parse_overlap

UNKNOWN_NAMED = 20


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


class TenantIssueSerializer(StrictSerializer):
    kind = serializers.ChoiceField(
        Credential.Kind.choices, required=False, default=Credential.Kind.JWT
    )


class TenantRotationSerializer(TenantIssueSerializer, OverlapSerializer):
    replaces = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    all = serializers.BooleanField(required=False, default=False)


class LimitField(serializers.IntegerField):
    def __init__(self, largest: int) -> None:
        super().__init__(
            required=False, allow_null=True, default=None, min_value=-1, max_value=largest
        )


class LimitsSerializer(StrictSerializer):
    """null: the installation's default; -1: no limit."""

    max_connections = LimitField(2**31 - 1)
    max_subscriptions = LimitField(2**31 - 1)
    max_payload_bytes = LimitField(2**31 - 1)
    storage_bytes = LimitField(2**63 - 1)
    max_devices = LimitField(2**31 - 1)
