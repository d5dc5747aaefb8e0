from django.urls import path

from devices.api import views

urlpatterns = [
    path("agent/register", views.RegisterView.as_view(), name="api-register"),
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
    path("command/<uuid:uuid>", views.CommandView.as_view(), name="api-command"),
    path("health", views.HealthView.as_view(), name="api-health"),
    path("<path:rest>", views.NoSuchEndpointView.as_view()),
]
