from django.urls import path

from tenants.api import audit, credentials, tenants

urlpatterns = [
    path("tenant/<uuid:uuid>", tenants.TenantView.as_view(), name="api-tenant"),
    path(
        "tenant/<uuid:uuid>/credentials",
        credentials.TenantCredentialsView.as_view(),
        name="api-tenant-credentials",
    ),
    path(
        "tenant/<uuid:uuid>/credentials/rotate",
        credentials.RotateTenantCredentialView.as_view(),
        name="api-tenant-rotate",
    ),
    path(
        "tenant/<uuid:uuid>/credentials/<int:credential_id>/revoke",
        credentials.RevokeTenantCredentialView.as_view(),
        name="api-tenant-credential-revoke",
    ),
    path(
        "tenant/<uuid:uuid>/rotate-keys",
        credentials.RotateTenantKeysView.as_view(),
        name="api-tenant-rotate-keys",
    ),
    path(
        "tenant/<uuid:uuid>/suspend", tenants.SuspendTenantView.as_view(), name="api-tenant-suspend"
    ),
    path("tenant/<uuid:uuid>/resume", tenants.ResumeTenantView.as_view(), name="api-tenant-resume"),
    path("tenant/<uuid:uuid>/limits", tenants.TenantLimitsView.as_view(), name="api-tenant-limits"),
    path("tenant/<uuid:uuid>/audit", audit.TenantAuditView.as_view(), name="api-audit"),
    path(
        "tenant/<uuid:uuid>/audit/export",
        audit.TenantAuditExportView.as_view(),
        name="api-audit-export",
    ),
]
