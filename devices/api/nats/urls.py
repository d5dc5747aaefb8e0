from django.urls import path

from devices.api import schemes  # noqa: F401 (registers the schemes)
from devices.api.nats import (
    agents,
    bulk,
    commands,
    credentials,
    devices,
    fleet,
    health,
    heartbeats,
    monitoring,
    registration,
)

urlpatterns = [
    path("agent/register", registration.RegisterView.as_view(), name="register"),
    path("agent/<uuid:uuid>/upgrade", registration.UpgradeView.as_view(), name="upgrade"),
    path("agent/<uuid:uuid>/config", agents.AgentConfigView.as_view(), name="agent-config"),
    path("agent/<uuid:uuid>/restart", agents.RestartAgentView.as_view(), name="agent-restart"),
    path("tenant/<uuid:uuid>/agents/broadcast", bulk.BroadcastView.as_view(), name="broadcast"),
    path(
        "device/<uuid:uuid>/tenant",
        registration.DeviceTenantView.as_view(),
        name="device-tenant",
    ),
    path(
        "device/<uuid:uuid>/credentials",
        registration.DeviceCredentialsView.as_view(),
        name="device-credentials",
    ),
    path(
        "device/<uuid:uuid>/heartbeat",
        heartbeats.HeartbeatView.as_view(),
        name="device-heartbeat",
    ),
    path(
        "device/<uuid:uuid>/command",
        commands.DeviceCommandView.as_view(),
        name="device-command",
    ),
    path("device/<uuid:uuid>/status", devices.DeviceStatusView.as_view(), name="device-status"),
    path(
        "device/<uuid:uuid>/metrics/recent",
        devices.RecentMetricsView.as_view(),
        name="device-metrics",
    ),
    path("device/<uuid:uuid>", devices.DeviceView.as_view(), name="device"),
    path(
        "device/<uuid:uuid>/revoke",
        credentials.RevokeDeviceView.as_view(),
        name="device-revoke",
    ),
    path(
        "device/<uuid:uuid>/reinstate",
        credentials.ReinstateDeviceView.as_view(),
        name="device-reinstate",
    ),
    path(
        "device/<uuid:uuid>/rotate",
        credentials.RotateDeviceView.as_view(),
        name="device-rotate",
    ),
    path(
        "device/<uuid:uuid>/credentials/history",
        credentials.DeviceCredentialHistoryView.as_view(),
        name="device-credential-history",
    ),
    path("command/<uuid:uuid>", commands.CommandView.as_view(), name="command"),
    path(
        "command/<uuid:uuid>/cancel",
        commands.CancelCommandView.as_view(),
        name="command-cancel",
    ),
    path("command/<uuid:uuid>/retry", commands.RetryCommandView.as_view(), name="command-retry"),
    path("commands", bulk.BulkCommandsView.as_view(), name="bulk-commands"),
    path("commands/preview", bulk.BulkPreviewView.as_view(), name="bulk-preview"),
    path("commands/<uuid:uuid>", bulk.BulkCommandView.as_view(), name="bulk-command"),
    path("commands/<uuid:uuid>/cancel", bulk.CancelBulkView.as_view(), name="bulk-cancel"),
    path("commands/<uuid:uuid>/retry", bulk.RetryBulkView.as_view(), name="bulk-retry"),
    path("agent-status", fleet.AgentStatusView.as_view(), name="agent-status"),
    path("tenant/<uuid:uuid>/devices", fleet.TenantDevicesView.as_view(), name="tenant-devices"),
    path("metrics", monitoring.MetricsView.as_view(), name="metrics"),
    path(
        "tenant/<uuid:uuid>/metrics", monitoring.TenantMetricsView.as_view(), name="tenant-metrics"
    ),
    path("connections", monitoring.ConnectionsView.as_view(), name="connections"),
    path("debug/subjects", monitoring.SubjectsView.as_view(), name="debug-subjects"),
    path("health", health.HealthView.as_view(), name="health"),
]
