from tenants.admin.audit import AuditEntryAdmin
from tenants.admin.credentials import CredentialAdmin
from tenants.admin.keys import EnrollmentKeyAdmin
from tenants.admin.owners import GroupAdmin, OrganisationAdmin, TenantAdmin
from tenants.admin.people import ApiTokenAdmin, UserAdmin
from tenants.admin.sign_in import AccessAttemptAdmin, AccessFailureLogAdmin, AccessLogAdmin

__all__ = [
    "AccessAttemptAdmin",
    "AccessFailureLogAdmin",
    "AccessLogAdmin",
    "ApiTokenAdmin",
    "AuditEntryAdmin",
    "CredentialAdmin",
    "EnrollmentKeyAdmin",
    "GroupAdmin",
    "OrganisationAdmin",
    "TenantAdmin",
    "UserAdmin",
]
