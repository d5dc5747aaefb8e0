"""What is ended in the database ends at the broker, with a subscriber running."""

import asyncio
import threading
import time
from datetime import timedelta

import pytest
from django.conf import settings
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from devices.enrolment import credentials as device_credentials
from devices.models import Connectivity, Device
from natsbridge.identity.jwt import decode_jwt
from natsbridge.models import DeadLetter
from tenants.actions.limits import set_limits
from tenants.actions.suspension import resume_tenant, suspend_tenant
from tenants.audit.writer import audit_event, record_events
from tenants.broker import provisioning
from tenants.broker.accounts import announce_account, record_provisioned, record_provisioning_failed
from tenants.broker.logins import callout_authority, device_jwt
from tenants.broker.plans import Plan, ensure_stream
from tenants.broker.provisioning_task import _waiting
from tenants.credentials.ended_passwords import ended_passwords
from tenants.credentials.issue import Issued, issue_device_password, issue_tenant_credential
from tenants.credentials.revocations import revoke_credential
from tenants.models import (
    Action,
    ActorKind,
    AuditEntry,
    BrokerAccount,
    BrokerKey,
    Credential,
    Group,
    Tenant,
)
from tests.support.people import Enrolled, enrol
from tests.support.system import Agent, System, eventually
from tests.support.waiting import SAFETY_NET

DAY = timedelta(days=1)
PASSWORD = Credential.Kind.PASSWORD


class Held:
    """A device with one JWT, which it keeps."""

    def __init__(self, system: System, enrolled: Enrolled) -> None:
        self.system = system
        self.enrolled = enrolled
        self.device: Device = enrolled.device
        self.jwt = enrolled.jwt

    def log_in(self) -> Agent:
        tenant, seed = self.device.tenant_id, self.enrolled.key.seed
        agent = Agent(self.system.thread, self.device.pk, tenant, self.jwt, seed)
        return self.system._remember(agent)

    def gets_in(self) -> bool:
        try:
            self.log_in()
        except NatsError:
            return False
        return True


def provisioned(group: Group) -> BrokerAccount:
    return eventually(
        BrokerAccount.objects.filter(tenant=group.tenant, last_error="")
        .exclude(provisioned_at=None)
        .first
    )


def test_who_is_revoked_or_suspended_is_disconnected_and_stays_out(
    system: System, group_a: Group
) -> None:
    system.start_subscriber()
    provisioned(group_a)
    anna, otto = (Held(system, enrol(group_a, name)) for name in ("anna", "otto"))
    annas, ottos = anna.log_in(), otto.log_in()
    refusals = AuditEntry.objects.filter(action=Action.BROKER_REFUSED)

    device_credentials.revoke_device(anna.device, by=None, reason="stolen")
    eventually(lambda: annas.client.is_closed)

    assert not anna.gets_in()
    told = eventually(refusals.filter(device_uuid=anna.device.pk).first)
    assert (told.tenant_uuid, told.target) == (group_a.tenant_id, "device anna")
    assert told.detail == {"reason": "the JWT has been revoked or has ended"}
    assert ottos.client.is_connected
    device_credentials.reinstate_device(anna.device, by=None)
    assert system.lets_in(anna.enrolled)
    expired = Held(system, enrol(group_a, "late"))
    long_ago, key = int(time.time()) - 100, expired.enrolled.key.public
    expired.jwt = device_jwt(
        group_a.tenant_id, expired.device.pk, key, issued_at=long_ago, expires_at=long_ago + 50
    )
    assert not expired.gets_in()
    told = eventually(refusals.filter(device_uuid=expired.device.pk).first)
    assert told.detail == {"reason": "the JWT has expired"}

    tenant = group_a.tenant
    suspend_tenant(tenant, by=None, reason="unpaid")
    eventually(lambda: ottos.client.is_closed)

    assert not otto.gets_in()
    told = eventually(refusals.filter(device_uuid=otto.device.pk).first)
    assert (told.tenant_uuid, told.actor_kind) == (group_a.tenant_id, ActorKind.DEVICE)
    assert not DeadLetter.objects.exists()
    resume_tenant(tenant, by=None)
    eventually(otto.gets_in)


def test_a_jwt_that_a_restored_backup_lacks_is_disconnected_and_stays_out(
    system: System, group_a: Group
) -> None:
    system.start_subscriber()
    provisioned(group_a)
    enrolled = enrol(group_a, "anna")
    assert enrolled.jwt
    # The backup has this row of an hour ago, and not that of the JWT that came after it.
    row = Credential.objects.get(device_uuid=enrolled.device.pk)
    Credential.objects.filter(pk=row.pk).update(issued_at=row.issued_at - timedelta(hours=1))
    anna = Held(system, enrolled)
    Credential.objects.filter(device_uuid=enrolled.device.pk).exclude(pk=row.pk).delete()
    connected = anna.log_in()

    device_credentials.revoke_device(anna.device, by=None, reason="stolen")
    eventually(lambda: connected.client.is_closed)

    assert not anna.gets_in()


def test_a_password_that_ends_ends_its_connection_and_no_other(
    system: System, group_a: Group
) -> None:
    system.start_subscriber()
    provisioned(group_a)
    anna, otto = enrol(group_a, "anna").device, enrol(group_a, "otto").device
    tenant = group_a.tenant_id
    hers, his = (issue_device_password(tenant, each.pk) for each in (anna, otto))
    annas, ottos = by_password(system, hers), by_password(system, his)

    device_credentials.revoke_device(anna, by=None, reason="stolen")
    eventually(lambda: annas.is_closed)

    assert ottos.is_connected
    with pytest.raises(NatsError):
        by_password(system, hers)
    assert not system.lets_in_by_password("hunter2", "x")
    eventually(lambda: not kept_of_refused_passwords(system))
    system.thread.run(ottos.close())


def kept_of_refused_passwords(system: System) -> object:
    """What the stream has of them: the names as they were typed."""
    kept: list[object] = []
    subject = f"broker.{callout_authority().account.public}.disconnect"

    async def ask(js: JetStreamContext) -> None:
        info = await js.stream_info("BROKER", subjects_filter=subject)
        kept.append(info.state.subjects)

    system.as_platform_owner(ask)
    return kept[0]


def by_password(system: System, issued: Issued) -> Client:
    async def log_in() -> Client:
        client = Client()
        try:
            await client.connect(
                settings.NATS_URL,
                user=issued.username,
                password=issued.secret,
                allow_reconnect=False,
                connect_timeout=SAFETY_NET,
                error_cb=_quiet,
            )
        except NatsError:
            await client.close()
            raise
        return client

    return system.thread.run(log_in())


async def _quiet(error: Exception) -> None:
    pass


def test_a_device_that_is_told_to_renew_takes_over_and_its_old_jwt_is_void(
    system: System, group_a: Group
) -> None:
    system.start_subscriber()
    provisioned(group_a)
    anna = Held(system, enrol(group_a, "anna"))
    first = anna.log_in()
    first.heartbeat(capabilities={"receipts": True, "commands": [{"name": "renew_credentials"}]})
    eventually(Connectivity.objects.exclude(capabilities={}).exists)
    device_credentials.rotate_device(anna.device, by=None, overlap=DAY)
    command = eventually(lambda: first.received)[0]["payload"]
    old, anna.jwt = anna.jwt, anna.enrolled.jwt

    second = anna.log_in()
    second.answer(command["command_id"])

    assert command["command"] == "renew_credentials"
    assert decode_jwt(anna.jwt)["iat"] > decode_jwt(old)["iat"]
    eventually(lambda: first.client.is_closed)
    assert second.client.is_connected
    assert anna.gets_in()
    anna.jwt = old
    assert not anna.gets_in()


def test_limits_are_pushed_at_once_and_storage_never_shrinks_below_what_it_holds(
    system: System, group_a: Group
) -> None:
    system.start_subscriber()
    provisioned(group_a)
    anna, otto = (Held(system, enrol(group_a, name)) for name in ("anna", "otto"))
    ottos = otto.log_in()
    set_limits(group_a.tenant, by=None, max_connections=1, max_payload_bytes=900_000)
    refused = AuditEntry.objects.filter(action=Action.BROKER_REFUSED, device_uuid=anna.device.pk)
    # A login that fails need not have been refused: a busy machine may have been too slow for it.
    eventually(lambda: not anna.gets_in() and refused.exists())
    assert ottos.client.is_connected
    assert refused.filter(tenant_uuid=group_a.tenant_id).exists()
    set_limits(group_a.tenant, by=None, max_connections=None)
    eventually(anna.gets_in)
    ottos.report_all("status", [{"text": "x" * 10_000}] * 100)

    set_limits(group_a.tenant, by=None, storage_bytes=1024**2)

    failed = eventually(BrokerAccount.objects.exclude(last_error="").first)
    assert "would drop messages" in failed.last_error
    # What comes with it is in force all the same.
    device_credentials.revoke_device(otto.device, by=None, reason="stolen")
    eventually(lambda: ottos.client.is_closed)
    set_limits(group_a.tenant, by=None, storage_bytes=8 * 1024**2)
    assert provisioned(group_a)


def test_a_push_that_the_server_refuses_leaves_the_last_claims_in_force_and_is_shown(
    system: System, group_a: Group
) -> None:
    system.start_subscriber()
    provisioned(group_a)
    anna = Held(system, enrol(group_a, "anna"))
    annas = anna.log_in()
    operator = BrokerKey.objects.get(purpose="operator")
    trusted = (operator.public_key, operator.seed_encrypted)
    stranger = BrokerKey.objects.filter(purpose="account").get()
    operator.public_key = "O" + operator.public_key[1:]
    operator.seed_encrypted = stranger.seed_encrypted
    operator.save()

    set_limits(group_a.tenant, by=None, max_connections=7)

    shown = eventually(BrokerAccount.objects.exclude(last_error="").first)
    assert shown.last_error
    assert annas.client.is_connected
    assert anna.gets_in()
    operator.public_key, operator.seed_encrypted = trusted
    operator.save()
    announce_account(group_a.tenant)
    assert provisioned(group_a)


def test_a_revocation_while_the_broker_is_away_is_in_force_when_it_comes_back(
    system: System, group_a: Group
) -> None:
    system.start_subscriber()
    provisioned(group_a)
    anna = Held(system, enrol(group_a, "anna"))
    anna.log_in()
    system.server.stop()
    revoke_credential(Credential.objects.get(device_uuid=anna.device.pk), by=None, reason="lost")
    system.start_server()
    eventually(lambda: not anna.gets_in())


def test_the_newest_change_is_the_last_of_those_that_wait(group_a: Group, group_b: Group) -> None:
    for group in (group_a, group_b, group_a):
        announce_account(group.tenant)
    assert [account.tenant for account in _waiting()] == [group_b.tenant, group_a.tenant]
    for account in BrokerAccount.objects.all():
        record_provisioned(account.tenant, account.wanted_at)
    assert _waiting() == []
    record_provisioning_failed(group_a.tenant, "no disk left")
    assert [account.tenant for account in _waiting()] == [group_a.tenant]


def test_a_revocation_does_not_wait_for_the_streams_of_others(
    system: System,
    group_a: Group,
    group_b: Group,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system.start_subscriber()
    provisioned(group_a)
    provisioned(group_b)
    anna, berta = Held(system, enrol(group_a, "anna")), Held(system, enrol(group_b, "berta"))
    annas, _ = anna.log_in(), berta.log_in()
    set_limits(group_b.tenant, by=None, max_connections=1)
    provisioned(group_b)
    at_it, release = threading.Event(), threading.Event()

    async def held(plan: Plan, client: Client) -> list[str]:
        if plan.tenant == group_b.tenant:
            at_it.set()
            await asyncio.to_thread(release.wait, 2 * SAFETY_NET)
        return await ensure_stream(plan, client)

    monkeypatch.setattr(provisioning, "ensure_stream", held)
    set_limits(group_b.tenant, by=None, storage_bytes=64 * 1024**2)
    assert at_it.wait(SAFETY_NET)
    try:
        device_credentials.revoke_device(anna.device, by=None, reason="stolen")
        eventually(lambda: annas.client.is_closed)
    finally:
        release.set()


def test_the_connection_of_a_live_password_is_spared_whatever_else_happened_since(
    tenant_a: Tenant,
) -> None:
    used, lost = (
        issue_tenant_credential(tenant_a, kind=PASSWORD, by=None).credential for _ in range(2)
    )
    logins = [
        audit_event(
            Action.BROKER_LOGIN,
            tenant=tenant_a.pk,
            detail={"credential": row.pk, "server": "S", "client": row.pk},
        )
        for row in (used, lost)
    ]
    others = [audit_event(Action.COMMAND_ISSUED, tenant=tenant_a.pk) for _ in range(2_100)]
    record_events(logins + others)
    revoke_credential(lost, by=None, reason="lost")
    assert ended_passwords(tenant_a.pk).spared == {("S", used.pk)}
