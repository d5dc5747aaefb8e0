"""What the endpoints answer, for the documentation of the API. Times are epoch seconds."""

from typing import Any

from rest_framework import serializers


class CredentialsAnswer(serializers.Serializer[Any]):
    jwt = serializers.CharField()
    nats_url = serializers.CharField()


class RegistrationAnswer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    deviceuuid = serializers.UUIDField()
    tenant_uuid = serializers.UUIDField()
    device_token = serializers.CharField()
    nats_credentials = CredentialsAnswer()


class DeviceTenantAnswer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    device_uuid = serializers.UUIDField()
    tenant_uuid = serializers.UUIDField()
    group_uuid = serializers.UUIDField()
    org_uuid = serializers.UUIDField()
    nats_server = serializers.CharField()


class DeviceCredentialsAnswer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    device_uuid = serializers.UUIDField()
    tenant_uuid = serializers.UUIDField()
    credentials = CredentialsAnswer()


class IssuedAnswer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    command_id = serializers.UUIDField()
    status_url = serializers.URLField()


class CommandAnswer(serializers.Serializer[Any]):
    command_id = serializers.UUIDField()
    device_uuid = serializers.UUIDField()
    command = serializers.CharField()
    parameters = serializers.JSONField()
    state = serializers.CharField()
    created_at = serializers.FloatField()
    sent_at = serializers.FloatField(allow_null=True)
    finished_at = serializers.FloatField(allow_null=True)
    result = serializers.JSONField(allow_null=True)
    error = serializers.CharField(allow_null=True)


class DeviceStatusAnswer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    device_uuid = serializers.UUIDField()
    is_online = serializers.BooleanField()
    status = serializers.CharField()
    connection_type = serializers.CharField()
    last_heartbeat = serializers.FloatField(allow_null=True)
    last_seen_online = serializers.FloatField(allow_null=True)
    agent_version = serializers.CharField()
    connection_info = serializers.JSONField()


class PointAnswer(serializers.Serializer[Any]):
    timestamp = serializers.IntegerField(help_text="Epoch milliseconds.")
    value = serializers.FloatField()


class RecentMetricsAnswer(serializers.Serializer[Any]):
    device_uuid = serializers.UUIDField()
    metrics = serializers.DictField(child=PointAnswer(many=True), help_text="Oldest first.")


class HealthAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    components = serializers.DictField(child=serializers.CharField())
