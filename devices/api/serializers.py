"""What the endpoints take; every limit here is that of the column or of the broker."""

import json
from typing import Any

from rest_framework import serializers

from natsbridge.claims import is_public_user_key

# The broker carries 1 MiB a message, and the wrapper wants some of it.
MAX_JSON_BYTES = 512 * 1024


class JsonObjectField(serializers.DictField):
    """A JSON object of limited size, without what Postgres cannot store: NUL, half a surrogate
    pair, a number that is not finite."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        value: dict[str, Any] = super().to_internal_value(data)
        try:
            encoded = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except ValueError as error:
            raise serializers.ValidationError(f"Cannot be stored: {error}") from error
        if len(encoded) > MAX_JSON_BYTES:
            raise serializers.ValidationError(f"Larger than {MAX_JSON_BYTES} bytes.")
        if b"\\u0000" in encoded:
            raise serializers.ValidationError("NUL characters are not allowed.")
        return value


class RegistrationSerializer(serializers.Serializer[Any]):
    groupuuid = serializers.UUIDField()
    devicename = serializers.CharField(max_length=255)
    enrollment_key = serializers.CharField(max_length=200)
    nkey_public = serializers.CharField(max_length=56)
    hardwareinfo = JsonObjectField(required=False, default=dict)
    timestamp = serializers.IntegerField(required=False, min_value=0, max_value=2**53)
    signature = serializers.CharField(required=False, max_length=200)

    def validate_nkey_public(self, value: str) -> str:
        if not is_public_user_key(value):
            raise serializers.ValidationError("Not the public key of an NKey user (U…).")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("signature" in attrs) != ("timestamp" in attrs) and "signature" in attrs:
            raise serializers.ValidationError(
                {"timestamp": "A signature needs the timestamp it was made with."}
            )
        return attrs


class CommandSerializer(serializers.Serializer[Any]):
    command = serializers.RegexField(
        r"\A[A-Za-z0-9_.:-]{1,100}\Z",
        error_messages={"invalid": "A name of at most 100 letters, digits, and _ . : -"},
    )
    parameters = JsonObjectField(required=False, default=dict)


class RecentMetricsSerializer(serializers.Serializer[Any]):
    metric = serializers.RegexField(r"\A[A-Za-z0-9_-]{1,64}\Z", required=False)
    limit = serializers.IntegerField(required=False, min_value=1, max_value=10_000)
