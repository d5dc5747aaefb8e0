"""What the endpoints answer, for the documentation of the API. Times are epoch seconds."""

from typing import Any

from rest_framework import serializers

from devices.presence.rules import Presence, Reporter
from tenants.api.credentials import BrokerAddressesAnswer, CredentialAnswer


class SubjectsAnswer(serializers.Serializer[Any]):
    heartbeat = serializers.CharField()
    commands = serializers.CharField(help_text="To subscribe to; to the others it publishes.")
    responses = serializers.CharField()
    status = serializers.CharField()
    monitoring = serializers.CharField()
    sysinfo = serializers.CharField()
    metrics = serializers.CharField(
        help_text="With the metric's name, such as `cpu_percent`, in place of `{metric_type}`."
    )


class BrokerAccessAnswer(BrokerAddressesAnswer):
    inbox_prefix = serializers.CharField(
        help_text="For the client library: in other inboxes a device hears no acknowledgement."
    )
    subjects = SubjectsAnswer()


class CredentialsAnswer(BrokerAccessAnswer):
    """A JWT for a device that has registered a key, a username and a password for another."""

    jwt = serializers.CharField(required=False)
    username = serializers.CharField(required=False)
    password = serializers.CharField(
        required=False,
        help_text="A new one each time; the one before it ends once this one has been used.",
    )


class RegistrationAnswer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    deviceuuid = serializers.UUIDField()
    tenant_uuid = serializers.UUIDField()
    device_token = serializers.CharField()
    nats_credentials = CredentialsAnswer()


class UpgradeAnswer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    device_uuid = serializers.UUIDField()
    tenant_uuid = serializers.UUIDField()
    device_token = serializers.CharField(
        required=False, help_text="Where a person asked: void are all tokens before it."
    )
    nats_credentials = CredentialsAnswer()


class DeviceTenantAnswer(BrokerAccessAnswer):
    success = serializers.BooleanField()
    device_uuid = serializers.UUIDField()
    tenant_uuid = serializers.UUIDField()
    group_uuid = serializers.UUIDField()
    org_uuid = serializers.UUIDField()
    nats_server = serializers.CharField(help_text="The same as `nats_url`.")


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
    deadline = serializers.FloatField()
    sent_at = serializers.FloatField(allow_null=True)
    finished_at = serializers.FloatField(allow_null=True)
    result = serializers.JSONField(allow_null=True)
    result_cut_from = serializers.IntegerField(
        allow_null=True, help_text="Bytes that the result had, where it was cut."
    )
    error = serializers.CharField(allow_null=True)
    retry_of = serializers.UUIDField(allow_null=True, help_text="The command that it tries again.")
    bulk_id = serializers.UUIDField(allow_null=True)
    device_offline_since = serializers.FloatField(
        allow_null=True,
        help_text="Of a command that has not ended: since when its device is offline; null where "
        "it is not.",
    )


class BulkIssuedAnswer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    bulk_id = serializers.UUIDField()
    status_url = serializers.URLField()
    total = serializers.IntegerField(help_text="Devices that get the command.")
    left_out = serializers.DictField(
        child=serializers.IntegerField(), help_text="How many do not, by the reason."
    )


class BulkPreviewAnswer(serializers.Serializer[Any]):
    target = serializers.CharField()
    total = serializers.IntegerField(help_text="Devices that would get the command.")
    by_status = serializers.DictField(
        child=serializers.IntegerField(), help_text="online, stale, offline, unknown."
    )
    left_out = serializers.DictField(
        child=serializers.IntegerField(), help_text="How many would not, by the reason."
    )


class BulkAnswer(serializers.Serializer[Any]):
    bulk_id = serializers.UUIDField()
    tenant_uuid = serializers.UUIDField()
    command = serializers.CharField()
    parameters = serializers.JSONField()
    target = serializers.CharField()
    created_by = serializers.CharField(allow_null=True)
    created_at = serializers.FloatField()
    deadline = serializers.FloatField()
    cancelled_at = serializers.FloatField(allow_null=True)
    retry_of = serializers.UUIDField(allow_null=True)
    total = serializers.IntegerField()
    left_out = serializers.DictField(child=serializers.IntegerField())
    counts = serializers.DictField(child=serializers.IntegerField(), help_text="By state.")
    open = serializers.IntegerField(help_text="Those that have not ended yet.")
    to_give_up = serializers.IntegerField(
        help_text="Sent to devices that are offline now, and not ended: cancelling gives them up."
    )


class CancelledAnswer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    cancelled = serializers.IntegerField(help_text="How many commands that waited.")
    given_up = serializers.IntegerField(
        help_text="How many that were sent to devices that are offline now. They have failed; a "
        "result that comes late corrects that."
    )


class DeviceStatusAnswer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    device_uuid = serializers.UUIDField()
    revoked = serializers.BooleanField()
    is_online = serializers.BooleanField()
    status = serializers.CharField()
    connection_type = serializers.CharField()
    last_heartbeat = serializers.FloatField(allow_null=True)
    last_seen_online = serializers.FloatField(allow_null=True)
    presence = serializers.ChoiceField(
        [each.value for each in Presence],
        allow_null=True,
        help_text="Agrees with the status: online while that is Online or Stale, offline while it "
        "is Offline, null while it is Unknown.",
    )
    presence_since = serializers.FloatField(
        allow_null=True, help_text="null where nobody knows since when."
    )
    reported_by = serializers.ChoiceField(
        [each.value for each in Reporter],
        allow_null=True,
        help_text="Who said so: the broker as it connected or disconnected, its own heartbeat, "
        "or the broker's list of connections; null where it has been revoked or silent too long.",
    )
    unstable = serializers.BooleanField(help_text="Its link has come and gone again and again.")
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


class DeviceAnswer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    device_uuid = serializers.UUIDField()


class DeviceCredentialHistoryAnswer(DeviceAnswer):
    credentials = CredentialAnswer(many=True)
