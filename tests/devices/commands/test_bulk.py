"""A thousand commands at once: made, delivered, counted, cancelled, repeated."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from devices.commands import bulk, delivery, expansion, targets
from devices.errors import CommandConflict
from devices.models import BulkCommand, Command, CommandState, Device
from devices.presence.rules import Status
from natsbridge.models import Coverage
from natsbridge.subscriber import status
from tenants.actions.suspension import resume_tenant, suspend_tenant
from tenants.models import Action, AuditEntry, Group, Tenant, User
from tests.support.many import many_devices, some_offline


@pytest.fixture(autouse=True)
def listening(db: None, redis_server: object) -> None:
    status.beat("test", started_at=timezone.now(), connected=True, details={})


def issue(group: Group, by: User) -> BulkCommand:
    return bulk.issue(targets.of_group(by, group.pk), "ping", {"n": 1}, by=by)[0]


def send_all() -> int:
    sent = 0
    while outgoing := delivery.claim_due():
        sent += len(outgoing)
    return sent


def test_a_thousand_devices_a_third_of_them_offline_add_up(group_a: Group, alice: User) -> None:
    devices = many_devices(group_a, 1000)
    offline = some_offline(devices, 333)
    wanted = targets.of_group(alice, group_a.pk)
    by_status = bulk.preview(wanted, "ping").by_status
    assert (by_status[Status.ONLINE], by_status[Status.OFFLINE]) == (667, 333)
    with CaptureQueriesContext(connection) as queries:
        row = issue(group_a, alice)
    assert len(queries) < 100, "they do not grow with the devices"
    assert (row.total, row.waiting, row.expanded_at is not None) == (1000, [], True)
    assert bulk.progress(row) == dict.fromkeys(CommandState, 0) | {"queued": 1000}
    assert send_all() == 667
    assert bulk.progress(row) == dict.fromkeys(CommandState, 0) | {"queued": 333, "sent": 667}
    waiting = Command.objects.filter(state=CommandState.QUEUED)
    assert set(waiting.values_list("device", flat=True)) == {each.pk for each in offline}
    assert bulk.cancel(row, by=alice) == (333, 0)
    counts = bulk.progress(row)
    assert (counts["cancelled"], counts["sent"], sum(counts.values())) == (333, 667, 1000)
    assert set(Command.objects.exclude(error="").values_list("error", flat=True)) == {
        "cancelled by alice"
    }
    entries = AuditEntry.objects.filter(tenant_uuid=group_a.tenant_id)
    assert entries.filter(action=Action.COMMAND_ISSUED, device_uuid__isnull=False).count() == 1000
    assert entries.get(action=Action.BULK_ISSUED).detail["devices"] == 1000
    assert entries.get(action=Action.BULK_CANCELLED).detail["cancelled"] == 333


def test_what_was_sent_to_devices_that_went_away_is_given_up_and_the_rest_goes_on(
    group_a: Group, alice: User
) -> None:
    devices = many_devices(group_a, 12)
    some_offline(devices[:4], 4)
    row = issue(group_a, alice)
    assert send_all() == 8
    Command.objects.filter(device=devices[4]).update(state=CommandState.DELIVERED)
    some_offline(devices[4:7], 3)
    assert bulk.to_give_up(row) == 3
    assert bulk.cancel(row, by=alice) == (4, 3)
    assert bulk.progress(row) == dict.fromkeys(CommandState, 0) | {
        "cancelled": 4,
        "failed": 3,
        "sent": 5,
    }
    given_up = Command.objects.filter(state=CommandState.FAILED)
    assert set(given_up.values_list("error", "unanswered")) == {("given up by alice", True)}
    detail = AuditEntry.objects.get(action=Action.BULK_CANCELLED).detail
    assert (detail["cancelled"], detail["given_up"]) == (4, 3)
    assert bulk.cancel(row, by=alice) == (0, 0)


def test_while_nobody_listens_no_device_is_taken_for_gone(group_a: Group, alice: User) -> None:
    devices = many_devices(group_a, 2)
    row = issue(group_a, alice)
    assert send_all() == 2
    some_offline(devices, 2)
    Coverage.objects.update(last_beat=timezone.now() - timedelta(minutes=1))
    assert bulk.cancel(row, by=alice) == (0, 0)


def test_what_failed_is_repeated_once(group_a: Group, alice: User) -> None:
    many_devices(group_a, 5)
    row = issue(group_a, alice)
    unlucky = set(Command.objects.values_list("pk", flat=True)[:2])
    Command.objects.filter(pk__in=unlucky).update(state=CommandState.FAILED)
    again, _ = bulk.retry(row, by=alice)
    assert set(again.commands.values_list("retry_of", flat=True)) == unlucky
    assert again.deadline - again.created_at == pytest.approx(
        row.deadline - row.created_at, abs=timedelta(seconds=1)
    )
    with pytest.raises(CommandConflict):
        bulk.retry(row, by=alice)
    again.commands.update(state=CommandState.EXPIRED)
    assert bulk.retry(again, by=alice)[0].total == 2


def test_what_the_death_of_a_process_left_is_made_by_a_subscriber(
    group_a: Group, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_devices(group_a, 5)
    with monkeypatch.context() as patch:
        patch.setattr(expansion, "BATCH", 2)
        patch.setattr(expansion, "expand", lambda row: expansion._expand_some(row.pk))
        row = issue(group_a, alice)
    assert Command.objects.count() == 2
    row.refresh_from_db()
    assert bulk.progress(row)["queued"] == 5
    Device.objects.get(pk=row.waiting[0]).delete()
    expansion.expand_unfinished()
    row.refresh_from_db()
    assert (row.total, row.left_out) == (4, {"revoked or deleted in the meantime": 1})
    expansion.expand(row)
    assert Command.objects.count() == 4


def test_of_a_tenant_that_is_suspended_in_mid_batch_nothing_more_is_sent(
    group_a: Group, tenant_a: Tenant, alice: User
) -> None:
    many_devices(group_a, 5)
    row = issue(group_a, alice)
    assert len(delivery.claim_due(limit=2)) == 2
    suspend_tenant(tenant_a, by=None, reason="unpaid")
    assert delivery.claim_due() == []
    Command.objects.filter(state=CommandState.QUEUED).update(deadline=timezone.now())
    delivery.sweep()
    ended = Command.objects.filter(state=CommandState.EXPIRED)
    assert set(ended.values_list("error", flat=True)) == {
        "the tenant was suspended, and not resumed before the deadline"
    }
    assert bulk.progress(row)["sent"] == 2
    resume_tenant(tenant_a, by=None)
    assert delivery.claim_due() == []


def test_a_suspended_tenant_takes_no_bulk_command_until_it_is_resumed(
    group_a: Group, tenant_a: Tenant, alice: User
) -> None:
    devices = many_devices(group_a, 3)
    row = issue(group_a, alice)
    row.commands.update(state=CommandState.FAILED)
    Device.objects.filter(pk=devices[0].pk).update(revoked_at=timezone.now())
    suspend_tenant(tenant_a, by=None, reason="unpaid")
    previewed = bulk.preview(targets.of_group(alice, group_a.pk), "ping")
    assert previewed.total == 0
    assert previewed.left_out == {"revoked": 1, "the tenant is suspended": 2}
    assert bulk.failed(row).count() == 0
    for refused in (lambda: issue(group_a, alice), lambda: bulk.retry(row, by=alice)):
        with pytest.raises(CommandConflict, match="suspended"):
            refused()
    resume_tenant(tenant_a, by=None)
    assert bulk.retry(row, by=alice)[0].total == 2
