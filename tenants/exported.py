"""The rows of this app that leave with a tenant's export."""

from tenants.export.tables import export_table
from tenants.models import (
    AuditEntry,
    BrokerAccount,
    Credential,
    EnrollmentKey,
    FloodBlock,
    Group,
    Membership,
    Organisation,
    Tenant,
)

export_table(Tenant, "pk")
export_table(Organisation, "tenant")
export_table(Group, "tenant")
export_table(Membership, "tenant", added={"username": "user__username", "email": "user__email"})
export_table(
    EnrollmentKey,
    "group__tenant",
    withheld={"digest": "the key's keyed hash", "hint": "the beginning of the key"},
)
export_table(BrokerAccount, "tenant")
export_table(Credential, "tenant", withheld={"digest": "the password's keyed hash"})
export_table(FloodBlock, "tenant")
export_table(AuditEntry, "tenant_uuid")
