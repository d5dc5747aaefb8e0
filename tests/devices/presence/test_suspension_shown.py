"""What is said of a suspended tenant: that it is suspended, wherever it is said."""

import io

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from nats.errors import Error as NatsError
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from devices.models import BrokerSession, Presence, PresenceChange
from natsbridge.protocol.broker_events import ACCOUNT_FULL, TENANT_SUSPENDED
from tenants.actions.suspension import resume_tenant, suspend_tenant
from tenants.credentials.issue import issue_tenant_credential
from tenants.credentials.revocations import revoke_credential
from tenants.models import (
    Action,
    AuditEntry,
    BrokerAccount,
    Credential,
    Group,
    Tenant,
    User,
)
from tests.support.people import authorization, enrol
from tests.support.system import System, eventually


def test_a_device_that_is_cut_off_and_refused_is_told_as_suspended_and_not_as_a_full_account(
    system: System, group_a: Group, settings: Settings
) -> None:
    settings.PRESENCE_GRACE_SECONDS = 1
    enrolled = enrol(group_a, "anna-laptop")
    device = enrolled.device
    agent = system.running_agent(enrolled)
    eventually(BrokerSession.objects.filter(device=device, ended_at=None).exists)
    jwt = enrolled.jwt
    suspend_tenant(group_a.tenant, by=None, reason="unpaid")
    eventually(lambda: agent.client.is_closed)
    ended = BrokerSession.objects.filter(device=device).exclude(ended_at=None)
    assert eventually(ended.first).end_reason == TENANT_SUSPENDED
    gone = PresenceChange.objects.filter(device=device, presence=Presence.OFFLINE)
    assert eventually(gone.first, within=30).reason == TENANT_SUSPENDED
    with pytest.raises(NatsError):
        system.agent_with(enrolled, jwt)
    refused = AuditEntry.objects.filter(action=Action.BROKER_REFUSED, device_uuid=device.pk)
    assert eventually(refused.first, within=30).detail["reason"] == TENANT_SUSPENDED
    told = AuditEntry.objects.filter(device_uuid=device.pk, via="broker")
    assert ACCOUNT_FULL not in {each.detail.get("reason") for each in told}


@pytest.fixture
def suspended(tenant_a: Tenant) -> Tenant:
    for kind in Credential.Kind:
        issue_tenant_credential(tenant_a, kind=kind, by=None)
    old = Credential.objects.latest("pk")
    revoke_credential(old, by=None, reason="leaked")
    suspend_tenant(tenant_a, by=None, reason="unpaid")
    BrokerAccount.objects.update(provisioned_at=timezone.now())
    return Tenant.objects.get(pk=tenant_a.pk)


def test_the_api_says_so(api: APIClient, suspended: Tenant, alice: User) -> None:
    path, access = f"/api/nats/tenant/{suspended.pk}", authorization(alice)
    answer = api.get(path, **access).json()
    assert answer["provisioning"]["state"] == "suspended"
    assert answer["counts"]["live_credentials"] == 0
    shown = api.get(f"{path}/credentials", **access).json()["credentials"]
    assert [each["state"] for each in shown] == ["ended", "suspended"]
    resume_tenant(suspended, by=None)
    shown = api.get(f"{path}/credentials", **access).json()["credentials"]
    assert [each["state"] for each in shown] == ["ended", "live"]


def test_the_tenants_page_says_so(client: Client, suspended: Tenant, alice: User) -> None:
    client.force_login(alice)
    page = client.get(f"/tenant/{suspended.pk}/").content.decode()
    assert "Suspended: the broker refuses all its connections." in page
    assert ">suspended</span>" in page
    assert "In force" not in page
    assert ">live</span>" not in page


def test_the_admin_says_so(client: Client, suspended: Tenant) -> None:
    client.force_login(User.objects.create_superuser("root"))
    page = client.get(f"/admin/tenants/tenant/{suspended.pk}/change/").content.decode()
    assert "Provisioned" not in page
    listed = client.get("/admin/tenants/credential/", {"state": "valid"})
    assert list(listed.context["cl"].result_list) == []
    everything = client.get("/admin/tenants/credential/").content.decode()
    assert "suspended" in everything


def test_the_lists_of_credentials_say_so(suspended: Tenant, group_a: Group) -> None:
    out = io.StringIO()
    call_command("provision_tenant_creds", suspended.name, "--list", stdout=out)
    first, *rows = out.getvalue().splitlines()
    assert first.startswith("Acme has been suspended since ")
    assert [row.split()[2] for row in rows] == ["ended", "suspended"]
