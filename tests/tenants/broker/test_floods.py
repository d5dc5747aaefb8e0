"""What is recorded of a sender that was disconnected, and how long it is blocked."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone
from pytest_django.fixtures import Settings

from natsbridge.rules.metering import Excess
from tenants.broker import floods
from tenants.broker.accounts import ensure_broker_account, ensure_platform_keys
from tenants.broker.claims import tenant_account
from tenants.broker.floods import Sender, lift_due_blocks, record_flood
from tenants.models import Action, AuditEntry, BrokerAccount, FloodBlock, Group, Tenant
from tests.support.people import Enrolled, enrol

EXCESS = Excess(54_321.4, 6_000_000.0, (("S", 1),))


@pytest.fixture
def enrolled(group_a: Group) -> Enrolled:
    ensure_platform_keys()
    ensure_broker_account(group_a.tenant)
    found = enrol(group_a, "anna-laptop")
    assert found.jwt
    return found


@pytest.fixture
def sender(enrolled: Enrolled) -> Sender:
    return Sender(enrolled.device.tenant_id, enrolled.device.pk)


def again(sender: Sender) -> FloodBlock:
    """A second later than the last time, and as if that block were over."""
    FloodBlock.objects.update(at=_earlier("at"), until=None)
    row = record_flood(sender, EXCESS)
    assert row
    return row


def _earlier(name: str) -> object:
    moment = FloodBlock.objects.values_list(name, flat=True).get()
    assert moment
    return moment - timedelta(seconds=1)


def seconds(row: FloodBlock) -> int:
    return round((row.until - row.at).total_seconds()) if row.until else 0


def revoked(enrolled: Enrolled) -> bool:
    account = tenant_account(enrolled.device.tenant_id)
    return enrolled.key.public in account.revocations


def test_the_first_time_is_on_record_and_it_may_come_back(
    enrolled: Enrolled, sender: Sender
) -> None:
    row = record_flood(sender, EXCESS)
    assert row
    assert row.until is None
    assert not revoked(enrolled)
    entry = AuditEntry.objects.get(action=Action.BROKER_FLOODED)
    assert (entry.tenant_uuid, entry.device_uuid) == (sender.tenant, sender.device)
    assert entry.target == "device anna-laptop"
    assert entry.detail["messages_per_second"] == 54_321


def test_one_that_goes_on_is_shut_out_each_time_for_longer(
    enrolled: Enrolled, sender: Sender, settings: Settings
) -> None:
    settings.FLOOD_BLOCK_SECONDS = 30
    record_flood(sender, EXCESS)
    before = BrokerAccount.objects.get().wanted_at
    assert [seconds(again(sender)) for _ in range(4)] == [30, 60, 120, 240]
    assert revoked(enrolled)
    assert BrokerAccount.objects.get().wanted_at > before, "the broker is to be told"


def test_what_two_subscribers_see_at_once_counts_once(sender: Sender) -> None:
    assert record_flood(sender, EXCESS)
    assert record_flood(sender, EXCESS) is None
    assert AuditEntry.objects.filter(action=Action.BROKER_FLOODED).count() == 1


def test_however_late_a_second_subscriber_puts_it_down_it_counts_once(sender: Sender) -> None:
    """The first has ended the connections, so to the second they were gone."""
    seen = timezone.now() - timedelta(seconds=4)
    later = {"seen_at": seen + timedelta(seconds=2), "were_gone": True}
    assert record_flood(sender, EXCESS, seen_at=seen)
    assert record_flood(sender, EXCESS, **later) is None
    # Nor where it was the quicker one to put it down.
    FloodBlock.objects.all().delete()
    assert record_flood(sender, EXCESS, **later)
    assert record_flood(sender, EXCESS, seen_at=seen) is None
    # What goes on is another time.
    row = record_flood(sender, EXCESS)
    assert row
    assert row.offences == 2


def test_a_flood_long_after_the_last_is_a_first_one(sender: Sender) -> None:
    record_flood(sender, EXCESS)
    assert again(sender).until
    FloodBlock.objects.update(at=_earlier("at") - 2 * floods.FORGIVEN_AFTER, until=None)  # type: ignore[operator]
    row = record_flood(sender, EXCESS)
    assert row
    assert row.until is None


def test_a_device_whose_time_is_up_is_admitted_again(enrolled: Enrolled, sender: Sender) -> None:
    record_flood(sender, EXCESS)
    again(sender)
    assert not lift_due_blocks()
    FloodBlock.objects.update(until=_earlier("until") - timedelta(hours=1))  # type: ignore[operator]
    before = BrokerAccount.objects.get().wanted_at
    assert lift_due_blocks() == 1
    assert not lift_due_blocks()
    assert not revoked(enrolled)
    assert BrokerAccount.objects.get().wanted_at > before


def test_without_a_time_nobody_is_shut_out(sender: Sender, settings: Settings) -> None:
    settings.FLOOD_BLOCK_SECONDS = 0
    record_flood(sender, EXCESS)
    assert again(sender).until is None


def test_a_tenant_credential_is_known_by_its_key_or_its_address(enrolled: Enrolled) -> None:
    tenant = enrolled.device.tenant_id
    for sender in (
        Sender(tenant, None, "U" * 56, "192.0.2.1", ("S", 1)),
        Sender(tenant, None, "", "192.0.2.1", ("S", 2)),
        Sender(tenant, None, "", "192.0.2.2", ("S", 3)),
    ):
        assert record_flood(sender, EXCESS)
    found = set(FloodBlock.objects.values_list("public_key", "address"))
    assert found == {("U" * 56, ""), ("", "192.0.2.1"), ("", "192.0.2.2")}
    assert {entry.actor for entry in AuditEntry.objects.filter(action=Action.BROKER_FLOODED)} == {
        f"tenant_{tenant}"
    }


def test_where_much_is_revoked_a_flood_shuts_out_nobody_else(
    enrolled: Enrolled, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenants.broker.claims.MOST_REVOCATIONS", 0)
    record_flood(sender, EXCESS)
    again(sender)
    assert set(tenant_account(sender.tenant).revocations) == {enrolled.key.public}


@pytest.mark.django_db(transaction=True)
def test_recording_a_flood_holds_up_nothing_that_is_added_to_the_tenant(sender: Sender) -> None:
    """Whatever refers to the tenant asks for this lock; its holder may have the account's, which
    the record of a flood takes next."""

    def refer() -> None:
        with closing(connection), transaction.atomic():
            Tenant.objects.raw("SELECT * FROM tenants_tenant FOR KEY SHARE NOWAIT")[0]

    with transaction.atomic(), ThreadPoolExecutor(1) as other:
        record_flood(sender, EXCESS)
        other.submit(refer).result()
