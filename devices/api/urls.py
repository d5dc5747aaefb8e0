from django.urls import path

from devices.api import (
    bulk,
    credentials,
    schemes,  # noqa: F401 (registers the schemes)
    views,
)

urlpatterns = [
    path("agent/register", views.RegisterView.as_view(), name="api-register"),
    path("agent/<uuid:uuid>/upgrade", views.UpgradeView.as_view(), name="api-upgrade"),
    path("device/<uuid:uuid>/tenant", views.DeviceTenantView.as_view(), name="api-device-tenant"),
    path(
        "device/<uuid:uuid>/credentials",
        views.DeviceCredentialsView.as_view(),
        name="api-device-credentials",
    ),
    path(
        "device/<uuid:uuid>/command", views.DeviceCommandView.as_view(), name="api-device-command"
    ),
    path("device/<uuid:uuid>/status", views.DeviceStatusView.as_view(), name="api-device-status"),
    path(
        "device/<uuid:uuid>/metrics/recent",
        views.RecentMetricsView.as_view(),
        name="api-device-metrics",
    ),
    path("device/<uuid:uuid>", credentials.DeviceView.as_view(), name="api-device"),
    path(
        "device/<uuid:uuid>/revoke",
        credentials.RevokeDeviceView.as_view(),
        name="api-device-revoke",
    ),
    path(
        "device/<uuid:uuid>/reinstate",
        credentials.ReinstateDeviceView.as_view(),
        name="api-device-reinstate",
    ),
    path(
        "device/<uuid:uuid>/rotate",
        credentials.RotateDeviceView.as_view(),
        name="api-device-rotate",
    ),
    path(
        "device/<uuid:uuid>/credentials/history",
        credentials.DeviceCredentialHistoryView.as_view(),
        name="api-device-credential-history",
    ),
    path("command/<uuid:uuid>", views.CommandView.as_view(), name="api-command"),
    path(
        "command/<uuid:uuid>/cancel",
        views.CancelCommandView.as_view(),
        name="api-command-cancel",
    ),
    path("command/<uuid:uuid>/retry", views.RetryCommandView.as_view(), name="api-command-retry"),
    path("commands", bulk.BulkCommandsView.as_view(), name="api-bulk-commands"),
    path("commands/preview", bulk.BulkPreviewView.as_view(), name="api-bulk-preview"),
    path("commands/<uuid:uuid>", bulk.BulkCommandView.as_view(), name="api-bulk-command"),
    path("commands/<uuid:uuid>/cancel", bulk.CancelBulkView.as_view(), name="api-bulk-cancel"),
    path("commands/<uuid:uuid>/retry", bulk.RetryBulkView.as_view(), name="api-bulk-retry"),
    path("health", views.HealthView.as_view(), name="api-health"),
    path("<path:rest>", views.NoSuchEndpointView.as_view()),
]
