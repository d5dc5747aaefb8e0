"""The tenants and passwords of the attacks as rows, which the real callout decides by."""

from dataclasses import dataclass
from uuid import UUID, uuid4

from tenants.actions.suspension import suspend_tenant
from tenants.actions.tenants import create_tenant
from tenants.broker.accounts import Purpose, ensure_broker_account, key_pair
from tenants.credentials.issue import issue_device_password, issue_tenant_credential
from tenants.credentials.revocations import revoke_credential
from tenants.models import Credential as Row
from tenants.models import Tenant as TenantRow
from tests.suites.attacks.deeds import Credential
from tests.support.broker import Tenant
from tests.support.callout import ConnectOptions, by_password

DEVICES = ("A1", "A2", "A3", "B1", "B2", "C1", "C2")


@dataclass(frozen=True)
class Registered:
    """Tenants by letter, devices by letter and number, and the logins of those with a password."""

    tenants: dict[str, Tenant]
    devices: dict[str, UUID]
    logins: dict[Credential, ConnectOptions]


def register() -> Registered:
    """Tenant C is suspended; A3's password is revoked."""
    rows = {letter: create_tenant(name=f"Tenant {letter}") for letter in "ABC"}
    for row in rows.values():
        ensure_broker_account(row)
    devices = {name: uuid4() for name in DEVICES}
    issued = {
        name: issue_device_password(rows[name[0]].pk, devices[name])
        for name in ("A1", "A2", "A3", "C1")
    }
    tenant = issue_tenant_credential(rows["A"], kind=Row.Kind.PASSWORD, by=None)
    revoke_credential(issued["A3"].credential, by=None, reason="stolen")
    suspend_tenant(rows["C"], by=None, reason="unpaid")
    logins = {
        Credential.DEVICE_PASSWORD: issued["A1"],
        Credential.TENANT_PASSWORD: tenant,
        Credential.REVOKED_PASSWORD: issued["A3"],
        Credential.SUSPENDED_PASSWORD: issued["C1"],
    }
    name = issued["A1"].username
    return Registered(
        {letter: _with_keys(row) for letter, row in rows.items()},
        devices,
        {who: by_password(each.username, each.secret) for who, each in logins.items()}
        | {
            Credential.WRONG_PASSWORD: by_password(name, "A" * len(issued["A1"].secret)),
            Credential.OTHERS_PASSWORD: by_password(name, issued["A2"].secret),
        },
    )


def _with_keys(row: TenantRow) -> Tenant:
    keys = (key_pair(each, row.pk) for each in (Purpose.ACCOUNT, Purpose.DEVICE, Purpose.TENANT))
    return Tenant(row.pk, *keys)
