from django.db import models

from devices.models.device import Device
from tenants.models import TenantOwnedQuerySet


class ConnectivityQuerySet(TenantOwnedQuerySet["Connectivity"]):
    tenant_path = "device__tenant"


class Connectivity(models.Model):
    """What the last heartbeat said. Written once a minute for each device, so kept apart from
    Device, with room on each page (fillfactor 70) and no index on what a heartbeat writes."""

    device = models.OneToOneField(
        Device, primary_key=True, on_delete=models.CASCADE, related_name="connectivity"
    )
    connection_type = models.CharField(max_length=20, default="nats")
    # Times are the server's: when the broker stored the message.
    last_heartbeat = models.DateTimeField(null=True)
    last_seen_online = models.DateTimeField(null=True)
    agent_version = models.CharField(max_length=64, blank=True)
    session_id = models.CharField(max_length=128, blank=True)
    # The body's `system_info` and `status`, as the agent sent them.
    connection_info = models.JSONField(default=dict)
    capabilities = models.JSONField(default=dict)
    # The device's clock minus the server's.
    clock_offset_seconds = models.FloatField(null=True)

    objects = ConnectivityQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "connectivities"

    def __str__(self) -> str:
        return f"connectivity of {self.device_id}"

    @property
    def clock_is_off(self) -> bool:
        return self.clock_offset_seconds is not None and abs(self.clock_offset_seconds) > 300

    @property
    def gives_receipts(self) -> bool:
        return self.capabilities.get("receipts") is True


class RealtimeDataQuerySet(TenantOwnedQuerySet["RealtimeData"]):
    tenant_path = "device__tenant"


class RealtimeData(models.Model):
    """The latest message of each kind from each device."""

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="realtime_data")
    # `status`, `sysinfo`, or `monitoring:` and the body's `monitoring_type`.
    kind = models.CharField(max_length=128)
    data = models.JSONField()
    received_at = models.DateTimeField()

    objects = RealtimeDataQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "realtime data"
        constraints = [
            models.UniqueConstraint(fields=["device", "kind"], name="latest_of_each_kind")
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.device_id}"
