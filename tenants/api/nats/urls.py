from django.urls import path

from tenants.api.nats import audit, credentials, service, tenants

urlpatterns = [
    path("service/status", service.ServiceStatusView.as_view(), name="service-status"),
    path("service/start", service.StartServiceView.as_view(), name="service-start"),
    path("service/stop", service.StopServiceView.as_view(), name="service-stop"),
    path("tenant/<uuid:uuid>", tenants.TenantView.as_view(), name="tenant"),
    path(
        "tenant/<uuid:uuid>/credentials",
        credentials.TenantCredentialsView.as_view(),
        name="tenant-credentials",
    ),
    path(
        "tenant/<uuid:uuid>/credentials/rotate",
        credentials.RotateTenantCredentialView.as_view(),
        name="tenant-rotate",
    ),
    path(
        "tenant/<uuid:uuid>/credentials/<int:credential_id>/revoke",
        credentials.RevokeTenantCredentialView.as_view(),
        name="tenant-credential-revoke",
    ),
    path(
        "tenant/<uuid:uuid>/rotate-keys",
        credentials.RotateTenantKeysView.as_view(),
        name="tenant-rotate-keys",
    ),
    path("tenant/<uuid:uuid>/suspend", tenants.SuspendTenantView.as_view(), name="tenant-suspend"),
    path("tenant/<uuid:uuid>/resume", tenants.ResumeTenantView.as_view(), name="tenant-resume"),
    path("tenant/<uuid:uuid>/limits", tenants.TenantLimitsView.as_view(), name="tenant-limits"),
    path("tenant/<uuid:uuid>/audit", audit.TenantAuditView.as_view(), name="audit"),
    path(
        "tenant/<uuid:uuid>/audit/export",
        audit.TenantAuditExportView.as_view(),
        name="audit-export",
    ),
]
