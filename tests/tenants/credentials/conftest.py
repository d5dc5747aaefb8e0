"""Fixtures and helpers for the tests of credentials."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.utils import timezone

from natsbridge.identity import nkeys
from natsbridge.identity.jwt import decode_jwt
from tenants.broker.accounts import ensure_platform_keys
from tenants.broker.claims import tenant_account
from tenants.credentials.issue import issue_device_jwt
from tenants.credentials.rotate import rotate_tenant
from tenants.credentials.use import JwtUse, record_jwt_uses
from tenants.models import Credential, Tenant

JWT, PASSWORD = Credential.Kind.JWT, Credential.Kind.PASSWORD
NOTHING, DAY = timedelta(0), timedelta(days=1)
DEVICE = uuid4()


def jwt_of(tenant: Tenant, key: str, device: UUID = DEVICE) -> tuple[Credential, dict[str, Any]]:
    issued = issue_device_jwt(tenant.pk, device, key)
    return issued.credential, decode_jwt(issued.secret)


def revocations(tenant: Tenant) -> dict[str, int]:
    return dict(tenant_account(tenant.pk).revocations)


def use(row: Credential) -> None:
    issued_at = int(row.issued_at.timestamp())
    record_jwt_uses([JwtUse(row.public_key, issued_at, timezone.now())])


def fresh(row: Credential) -> Credential:
    row.refresh_from_db()
    return row


def an_hour_ago(row: Credential) -> Credential:
    row.issued_at -= timedelta(hours=1)
    row.save()
    return row


def rotate(
    tenant: Tenant, replaces: Credential | None, *, overlap: timedelta = DAY, kind: str = JWT
) -> Credential:
    issued = rotate_tenant(
        tenant, by=None, overlap=overlap, kind=Credential.Kind(kind), replaces=replaces
    )
    return issued.credential


@pytest.fixture(autouse=True)
def _platform_keys(db: None) -> None:
    ensure_platform_keys()


@pytest.fixture
def key() -> str:
    return nkeys.generate("user").public
