"""People, tenants and their groups, keys and credentials, and the audit."""

from tenants.models.audit import Action, ActorKind, AuditAnchor, AuditEntry, AuditFilter
from tenants.models.broker import BrokerAccount, BrokerKey, Credential
from tenants.models.exports import ExportChunk, TenantExport
from tenants.models.floods import FloodBlock
from tenants.models.idempotency import IdempotentRequest
from tenants.models.keys import ApiToken, EnrollmentKey, hash_token
from tenants.models.one_time import OneTimeSecret
from tenants.models.owners import Group, Organisation, Tenant
from tenants.models.people import (
    Membership,
    Person,
    Role,
    TenantOwnedQuerySet,
    User,
    has_role,
    tenant_of,
)
from tenants.models.web_sessions import WebSession

__all__ = [
    "Action",
    "ActorKind",
    "ApiToken",
    "AuditAnchor",
    "AuditEntry",
    "AuditFilter",
    "BrokerAccount",
    "BrokerKey",
    "Credential",
    "EnrollmentKey",
    "ExportChunk",
    "FloodBlock",
    "Group",
    "IdempotentRequest",
    "Membership",
    "OneTimeSecret",
    "Organisation",
    "Person",
    "Role",
    "Tenant",
    "TenantExport",
    "TenantOwnedQuerySet",
    "User",
    "WebSession",
    "has_role",
    "hash_token",
    "tenant_of",
]
