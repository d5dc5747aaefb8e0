from django.urls import path

from tenants.views import account, audit, exports, tenant

urlpatterns = [
    path("account/", account.account, name="account"),
    path("account/password/", account.password, name="account-password"),
    path("account/tokens/new/", account.new_token, name="account-token-new"),
    path("account/tokens/secret/<uuid:secret_id>/", account.token, name="account-token"),
    path("account/tokens/<str:digest>/revoke/", account.revoke_token, name="account-token-revoke"),
    path("account/sessions/<int:number>/end/", account.end_session, name="account-session-end"),
    path("account/sessions/end-others/", account.end_others, name="account-sessions-end-others"),
    path("audit/", audit.audit, name="audit"),
    path("audit/export/", audit.export_audit, name="audit-export"),
    path("tenant/<uuid:tenant_uuid>/", tenant.tenant, name="tenant"),
    path("tenant/<uuid:tenant_uuid>/issue/", tenant.issue, name="tenant-issue"),
    path(
        "tenant/<uuid:tenant_uuid>/issued/<uuid:secret_id>/",
        tenant.issued_credential,
        name="tenant-credential-secret",
    ),
    path("tenant/<uuid:tenant_uuid>/export/", exports.request_one, name="tenant-export"),
    path("tenant/<uuid:tenant_uuid>/export/state/", exports.state, name="tenant-export-state"),
    path(
        "tenant/<uuid:tenant_uuid>/export/<uuid:export_uuid>/",
        exports.download_one,
        name="tenant-export-download",
    ),
    path("tenant/<uuid:tenant_uuid>/rotate/", tenant.rotate, name="tenant-rotate"),
    path("tenant/<uuid:tenant_uuid>/rotate-keys/", tenant.rotate_keys, name="tenant-rotate-keys"),
    path(
        "tenant/<uuid:tenant_uuid>/credentials/<int:credential_id>/revoke/",
        tenant.revoke,
        name="tenant-credential-revoke",
    ),
]
