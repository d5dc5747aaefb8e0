"""What the broker's events leave behind: sessions, history, audit, use of credentials."""

import json
from contextlib import nullcontext
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import OperationalError
from django.utils import timezone
from django.utils.module_loading import autodiscover_modules
from pytest_django import DjangoCaptureOnCommitCallbacks

from devices.commands import delivery
from devices.commands.issue import issue
from devices.enrolment import actions as enrolment
from devices.enrolment import refused_logins
from devices.models import (
    BrokerSession,
    Connectivity,
    Device,
    Presence,
    Reporter,
)
from devices.presence import events, sessions
from natsbridge.identity import claims, nkeys
from natsbridge.jetstream.declarations import TRIES
from natsbridge.models import Coverage
from natsbridge.protocol.broker_events import ORDERED_ENDS
from natsbridge.protocol.envelope import RawMessage
from natsbridge.registry import registry
from natsbridge.subscriber.dispatch import Dispatcher, Verdict, all_to
from tenants.broker.accounts import Purpose, key_pair
from tenants.models import Action, AuditEntry, Group, Tenant, User

pytestmark = pytest.mark.django_db
# Set anew for each test: what counts as online is reckoned from the present.
NOW = timezone.now()


@pytest.fixture(autouse=True)
def _now_is_when_the_test_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.NOW", timezone.now())


def event(
    tenant: Tenant,
    name: UUID | str,
    client: int = 1,
    *,
    began: float = 60.0,
    ended: float | None = None,
    reason: str = "Client Closed",
    deliveries: int = 1,
) -> RawMessage:
    """`began` and `ended` are seconds ago."""
    account, user = tenant.broker_account.public_key, nkeys.generate("user").public
    key = key_pair(Purpose.ACCOUNT, tenant.pk)
    jwt = claims.account_user_jwt(key, name=str(name), user_public=user, issued_at=1)
    body: dict[str, Any] = {
        "server": {"id": "NSERVER"},
        "timestamp": NOW.isoformat(),
        "client": {
            "start": (NOW - timedelta(seconds=began)).isoformat(),
            "id": client,
            "acc": account,
            "user": user,
            "jwt": jwt,
            "issuer_key": key.public,
            "host": "192.0.2.7",
            "tags": ["credential:5"],
        },
    }
    if ended is not None:
        body["client"]["stop"] = (NOW - timedelta(seconds=ended)).isoformat()
        body["reason"] = reason
    kind = "connect" if ended is None else "disconnect"
    data = json.dumps(body).encode()
    return RawMessage(f"broker.{account}.{kind}", data, {}, NOW, deliveries)


def connectivity(device: Device) -> Connectivity:
    return Connectivity.objects.get(device=device)


def audited() -> list[tuple[str, str]]:
    entries = AuditEntry.objects.filter(via="broker").order_by("pk")
    return list(entries.values_list("action", "actor"))


def test_who_leaves_without_having_logged_in_is_nobody() -> None:
    """A load balancer's probe, say, of which there may be one a second."""
    probe = RawMessage("broker.$G.disconnect", b'{"client": {"acc": "$G"}}', {}, NOW)
    assert events.record_events([probe]) == []
    assert audited() == []


def test_the_end_may_come_before_the_beginning(device_a: Device, tenant_a: Tenant) -> None:
    events.record_events([event(tenant_a, device_a.pk, ended=1)])
    events.record_events([event(tenant_a, device_a.pk)])
    assert BrokerSession.objects.get().ended_at is not None
    assert connectivity(device_a).offline_due_at is not None


def test_a_second_connection_keeps_a_device_online(device_a: Device, tenant_a: Tenant) -> None:
    events.record_events([event(tenant_a, device_a.pk), event(tenant_a, device_a.pk, 2)])
    events.record_events([event(tenant_a, device_a.pk, ended=50)])
    assert sessions.sweep() is None
    assert connectivity(device_a).presence == Presence.ONLINE
    events.record_events([event(tenant_a, device_a.pk, 2, ended=40)])
    sessions.sweep()
    row = connectivity(device_a)
    assert (row.presence, row.presence_by) == (Presence.OFFLINE, Reporter.DISCONNECT)
    assert row.presence_at == NOW - timedelta(seconds=40)


def test_a_link_that_comes_and_goes_is_given_longer(device_a: Device, tenant_a: Tenant) -> None:
    for number in range(4):
        began = 60.0 - 10 * number
        last = event(tenant_a, device_a.pk, number, began=began, ended=began - 4)
        events.record_events([last])
    row = connectivity(device_a)
    assert row.is_unstable
    assert row.offline_due_at == NOW - timedelta(seconds=26) + timedelta(seconds=30)


def reconnects(tenant: Tenant, device: Device, clients: range) -> list[RawMessage]:
    """Connections that each ended before the next began."""
    return [
        event(tenant, device.pk, client, began=250 - client / 5, ended=ended)
        for client in clients
        for ended in (None, 249.9 - client / 5)
    ]


def test_reconnects_by_the_thousand_leave_few_sessions_and_the_newest_among_them(
    device_a: Device, tenant_a: Tenant
) -> None:
    for start in range(0, 1000, 100):
        events.record_events(reconnects(tenant_a, device_a, range(start, start + 100)))
        assert BrokerSession.objects.count() <= sessions.ENDED_KEPT
    assert BrokerSession.objects.order_by("-started_at")[0].client_id == 999
    row = connectivity(device_a)
    assert row.last_seen_online == NOW - timedelta(seconds=50.2)
    assert row.unstable_until == NOW - timedelta(seconds=50.1) + timedelta(minutes=5)
    assert audited() == [
        (Action.BROKER_LOGIN, f"device_{device_a.pk}"),
        (Action.BROKER_DISCONNECTED, f"device_{device_a.pk}"),
    ]
    events.connection_events.flush(at_once=True)
    counted = AuditEntry.objects.filter(via="broker", count__gt=1).order_by("pk")
    assert list(counted.values_list("action", "count", "detail__connection")) == [
        (Action.BROKER_LOGIN, 999, 999),
        (Action.BROKER_DISCONNECTED, 999, 999),
    ]


def test_who_comes_from_elsewhere_is_told_at_once_in_spite_of_a_flood(
    device_a: Device, tenant_a: Tenant
) -> None:
    flood = reconnects(tenant_a, device_a, range(100))
    thief = event(tenant_a, device_a.pk, 500)
    elsewhere = thief._replace(data=thief.data.replace(b"192.0.2.7", b"198.51.100.1"))
    events.record_events([*flood, elsewhere])
    logins = AuditEntry.objects.filter(action=Action.BROKER_LOGIN)
    assert set(logins.values_list("address", flat=True)) == {"192.0.2.7", "198.51.100.1"}


def test_a_connection_that_is_long_forgotten_does_not_come_back_to_life(
    device_a: Device, tenant_a: Tenant
) -> None:
    told = reconnects(tenant_a, device_a, range(100))
    for single in told[2:]:
        events.record_events([single])
    events.record_events([told[1]])
    events.record_events([told[0]])
    assert not BrokerSession.objects.filter(ended_at=None).exists()
    assert BrokerSession.objects.count() == sessions.ENDED_KEPT


def test_one_that_the_list_has_named_ends_though_it_came_and_went_in_one_batch(
    device_a: Device, tenant_a: Tenant
) -> None:
    told = reconnects(tenant_a, device_a, range(50))
    listed = sessions.Session("NSERVER", 7, device_a.pk, "", NOW - timedelta(seconds=248.6))
    sessions.record([listed], by=Reporter.RECONCILIATION)
    events.record_events(told)
    assert not BrokerSession.objects.filter(ended_at=None).exists()


@pytest.mark.parametrize("reason", ORDERED_ENDS)
def test_a_link_that_the_platform_cuts_is_not_called_unstable(
    device_a: Device, tenant_a: Tenant, reason: str
) -> None:
    for number in range(4):
        began = 60.0 - 10 * number
        last = event(tenant_a, device_a.pk, number, began=began, ended=began - 4, reason=reason)
        events.record_events([last])
    assert BrokerSession.objects.exclude(ended_at=None).count() == 4
    assert not connectivity(device_a).is_unstable


def test_another_tenants_device_is_not_touched_and_the_login_is_on_record(
    device_b: Device, tenant_a: Tenant
) -> None:
    events.record_events([event(tenant_a, device_b.pk)])
    assert not BrokerSession.objects.exists()
    assert connectivity(device_b).presence == ""
    entry = AuditEntry.objects.get(via="broker")
    assert (entry.tenant_uuid, entry.target) == (tenant_a.pk, "a device that the tenant has not")


def test_who_comes_and_goes_is_audited_once_however_often_it_is_heard(
    device_a: Device, tenant_a: Tenant
) -> None:
    credential = f"tenant_{tenant_a.pk}"
    told = [
        (device_a.pk, None),
        (credential, None),
        (device_a.pk, 1.0),
        ("provisioner", None),
        ("somebody", None),
    ]
    for deliveries in (1, 2):
        events.record_events(
            [
                event(tenant_a, name, number, ended=ended, deliveries=deliveries)
                for number, (name, ended) in enumerate(told)
            ]
        )
    assert audited() == [
        (Action.BROKER_LOGIN, f"device_{device_a.pk}"),
        (Action.BROKER_LOGIN, credential),
        (Action.BROKER_DISCONNECTED, f"device_{device_a.pk}"),
        (Action.BROKER_LOGIN, "somebody"),
    ]
    left = AuditEntry.objects.get(action=Action.BROKER_DISCONNECTED)
    assert left.address == "192.0.2.7"
    assert (left.detail["reason"], left.detail["credential"]) == ("Client Closed", "5")


def test_a_deleted_device_or_an_unknown_account_is_not_an_error(tenant_a: Tenant) -> None:
    stranger = nkeys.generate("account").public
    told = event(tenant_a, uuid4())
    elsewhere = told._replace(
        subject=f"broker.{stranger}.connect",
        data=told.data.replace(tenant_a.broker_account.public_key.encode(), stranger.encode()),
    )
    assert events.record_events([told, elsewhere]) == []
    assert not BrokerSession.objects.exists()


def test_what_cannot_be_read_is_rejected_and_kept_without_any_jwt() -> None:
    autodiscover_modules("handlers")
    subscription = registry.streams["presence"]
    dispatcher = Dispatcher(all_to(subscription), tries=TRIES[subscription.consumer])
    body = b'{"client": {"jwt": "eyJhbGciOiJ9.eyJpYXQi.c2lnbmF0dXJl"'
    verdicts, rejections = dispatcher.dispatch(
        [RawMessage(f"broker.{'A' * 56}.connect", body, {}, timezone.now())]
    )
    assert verdicts == [Verdict.REJECTED]
    assert [rejection.reason for rejection in rejections] == ["malformed_json"]
    assert b"c2lnbmF0dXJl" not in subscription.dead_letter_body(body)


def test_a_command_goes_to_whom_the_broker_has_and_not_to_whom_it_has_lost(
    device_a: Device,
    tenant_a: Tenant,
    alice: User,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    Coverage.objects.create(last_beat=timezone.now())
    row = Connectivity.objects.filter(device=device_a)
    row.update(capabilities={"receipts": True})
    issue(device_a, "ping", {}, by=alice)
    assert delivery.claim_due() == []
    events.record_events([event(tenant_a, device_a.pk, began=1)])
    row.update(presence=Presence.OFFLINE)
    assert delivery.claim_due() == []
    row.update(presence=Presence.ONLINE, capabilities={})
    assert delivery.claim_due() == []  # it gives no receipts and has not spoken yet
    row.update(last_heartbeat=timezone.now())
    assert len(delivery.claim_due()) == 1


def test_a_device_that_was_upgraded_counts_as_moved_from_its_first_connection_on(
    group_a: Group, tenant_a: Tenant, alice: User
) -> None:
    device = enrolment.record_existing(group_a, "old-one", by=alice)
    moved = Connectivity.objects.filter(device=device, connection_type="nats")
    enrolment.upgrade(device, nkey_public=None, by=alice)
    assert not moved.exists()
    events.record_events([event(tenant_a, device.pk, began=1)])
    assert moved.exists()


def test_a_batch_that_is_rolled_back_and_comes_again_is_counted_once(
    device_a: Device, tenant_a: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = reconnects(tenant_a, device_a, range(20))
    comes_and_goes = AuditEntry.objects.filter(device_uuid=device_a.pk, via="broker")
    stage = refused_logins.stage

    def away(*args: Any) -> Any:
        raise OperationalError("Postgres is away")

    for fails in (True, False):
        monkeypatch.setattr(refused_logins, "stage", away if fails else stage)
        with pytest.raises(OperationalError) if fails else nullcontext():
            events.record_events(batch)
        assert comes_and_goes.exists() is not fails, "the first of each kind is told at once"
    events.connection_events.flush(at_once=True)
    assert sum(comes_and_goes.values_list("count", flat=True)) == len(batch)
