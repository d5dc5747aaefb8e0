"""The work of `provision_tenant_creds` on a tenant's own credentials."""

from collections.abc import Callable, Iterable
from datetime import timedelta

from django.core.management.base import CommandError
from django.db import transaction

from tenants.broker import provisioning
from tenants.credentials.issue import Issued, issue_tenant_credential
from tenants.credentials.revocations import revoke_credential
from tenants.credentials.rotate import (
    devices_not_renewing,
    newest_credential,
    rotate_all,
    rotate_keys,
    rotate_tenant,
)
from tenants.errors import CredentialRefused, RotationRefused
from tenants.models import Credential, Tenant
from tenants.rules.durations import USUAL_OVERLAP

Say = Callable[[str], object]

NAMED = 10


def provision(tenant: Tenant, say: Say) -> None:
    """Provision the tenant and `say` what changed. Raises CommandError."""
    try:
        changes = provisioning.provision(tenant)
    except provisioning.REFUSALS as error:
        raise CommandError(f"{tenant} is not provisioned: {error}") from error
    for change in changes:
        say(change)
    if not changes:
        say("nothing to change at the broker")


def issue(
    tenant: Tenant,
    kind: Credential.Kind,
    *,
    overlap: timedelta | None,
    rotate: bool = False,
    with_devices: bool = False,
    keys: bool = False,
) -> Issued:
    """Issue a new credential, which replaces older ones in a rotation.

    Raises CommandError, and has changed nothing then.
    """
    overlap = USUAL_OVERLAP if overlap is None else overlap
    try:
        with transaction.atomic():
            if keys:
                rotate_keys(tenant, by=None, overlap=overlap)
            if not rotate:
                return issue_tenant_credential(tenant, kind=kind, by=None)
            act = rotate_all if with_devices else rotate_tenant
            seen = newest_credential(tenant.pk, kind)
            return act(tenant, by=None, overlap=overlap, kind=kind, replaces=seen)
    except (CredentialRefused, RotationRefused) as error:
        raise CommandError(str(error)) from error


def say_who_keeps_theirs(tenant: Tenant, say: Say) -> None:
    """Say which devices keep their credentials in a rotation of all."""
    kept = devices_not_renewing(tenant)
    if kept:
        named = ", ".join(map(str, kept[:NAMED])) + (", …" if len(kept) > NAMED else "")
        say(
            f"The agents of {len(kept)} devices do not fetch a new credential when told to, so "
            f"these devices keep theirs until they have used a newer one: {named}"
        )


def revoke(tenant: Tenant, credential: int, *, reason: str | None) -> None:
    """End one of the tenant's credentials. Raises CommandError."""
    row = tenant.credentials.filter(pk=credential).first()
    if row is None:
        raise CommandError(f"{tenant} has no credential {credential}. --list shows those it has.")
    if not reason:
        raise CommandError("--reason is required; it is stored in the audit log.")
    revoke_credential(row, by=None, reason=reason)


def check(tenants: Iterable[Tenant], say: Say) -> None:
    """Say whether broker and database agree. Raises CommandError if any tenant differs."""
    checked = differing = 0
    for tenant in tenants:
        try:
            found = provisioning.check(tenant)
        except provisioning.REFUSALS as error:
            found = [f"cannot be checked: {error}"]
        checked += 1
        differing += bool(found)
        say(f"{tenant}: {'differs' if found else 'agrees'}")
        for difference in found:
            say(f"  {difference}")
    if differing:
        raise CommandError(f"{differing} of {checked} tenants differ.")
