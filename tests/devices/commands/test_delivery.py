"""When a command goes out, when again, and how it ends without an answer."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone
from pytest_django.fixtures import Settings

from devices.commands import delivery
from devices.commands import issue as commands
from devices.errors import CommandConflict, CommandRefused
from devices.models import BrokerSession, Command, CommandState, Connectivity, Device
from devices.presence import sessions
from devices.presence.rules import Presence, Reporter
from devices.presence.sessions import Session
from natsbridge.subscriber import status
from tenants.actions.people import set_membership
from tenants.models import Action, AuditEntry, Group, Membership, Role, Tenant, User
from tests.support.people import Enrolled, enrol
from tests.support.system import System, eventually


@pytest.fixture(autouse=True)
def listening(db: None, redis_server: object) -> None:
    status.beat("test", started_at=timezone.now(), connected=True, details={})


def online(device: Device) -> None:
    """With an agent that gives receipts."""
    Connectivity.objects.filter(device=device).update(
        last_seen_online=timezone.now(),
        capabilities={"receipts": True},
        capabilities_at=timezone.now() - timedelta(hours=1),
    )


def plain_agent(device: Device, *, connections: int = 1) -> list[BrokerSession]:
    """Online, with an agent that gives no receipts and has sent a heartbeat over all of its
    connections; in the order in which these began."""
    now = timezone.now()
    Connectivity.objects.filter(device=device).update(
        last_seen_online=now, last_heartbeat=now, presence=Presence.ONLINE, capabilities={}
    )
    return BrokerSession.objects.bulk_create(
        BrokerSession(
            server_id="N1", client_id=number, device=device, started_at=now - timedelta(seconds=9)
        )
        for number in range(connections)
    )


def ended(*connections: BrokerSession) -> None:
    for each in connections:
        end = Session("N1", each.client_id, each.device_id, "", each.started_at, timezone.now())
        sessions.record([end], by=Reporter.DISCONNECT)


def state(row: Command) -> str:
    return Command.objects.get(pk=row.pk).state


def age(row: Command, **changes: timedelta) -> None:
    """Moves times of the row into the past."""
    values = {name: timezone.now() - by for name, by in changes.items()}
    Command.objects.filter(pk=row.pk).update(**values)


def test_a_command_waits_until_its_device_is_online(device_a: Device, alice: User) -> None:
    row = commands.issue(device_a, "ping", {"n": 1}, by=alice)
    assert delivery.claim_due() == []
    online(device_a)
    (outgoing,) = delivery.claim_due()
    assert outgoing.account == device_a.tenant.broker_account.public_key
    assert outgoing.payload["payload"]["command_id"] == str(row.uuid)
    assert outgoing.payload["payload"]["parameters"] == {"n": 1}
    assert outgoing.payload["payload"]["sender"] == "alice"
    assert state(row) == CommandState.SENT


def test_commands_go_out_oldest_first(device_a: Device, alice: User) -> None:
    rows = [commands.issue(device_a, "ping", {}, by=alice) for _ in range(3)]
    online(device_a)
    sent = [each.payload["payload"]["command_id"] for each in delivery.claim_due()]
    assert sent == [str(row.uuid) for row in rows]


def test_without_a_receipt_it_is_sent_again_to_an_agent_that_gives_them(
    device_a: Device, alice: User
) -> None:
    row = commands.issue(device_a, "ping", {}, by=alice)
    online(device_a)
    assert len(delivery.claim_due()) == 1
    assert delivery.claim_due() == []
    age(row, sent_at=timedelta(seconds=11))
    assert len(delivery.claim_due()) == 1
    age(row, sent_at=timedelta(seconds=11))
    assert delivery.claim_due() == [], "the second wait is longer"


def test_it_is_sent_again_at_once_to_a_device_that_has_spoken_since(
    device_a: Device, alice: User
) -> None:
    row = commands.issue(device_a, "ping", {}, by=alice)
    online(device_a)
    assert len(delivery.claim_due()) == 1
    age(row, sent_at=timedelta(seconds=2))
    assert delivery.claim_due() == []
    Connectivity.objects.update(last_heartbeat=timezone.now(), capabilities_at=timezone.now())
    assert len(delivery.claim_due()) == 1
    assert delivery.claim_due() == []


def test_the_next_ones_wait_for_the_receipt_of_one_that_may_be_lost(
    device_a: Device, alice: User
) -> None:
    """As when a subscriber was killed between its claim and its publishing."""
    first = commands.issue(device_a, "first", {}, by=alice)
    online(device_a)
    lost = delivery.claim_due()
    second = commands.issue(device_a, "second", {}, by=alice)
    assert delivery.claim_due() == []
    age(first, sent_at=timedelta(seconds=11))
    assert [each.command for each in delivery.claim_due()] == [each.command for each in lost]
    Command.objects.filter(pk=first.pk).update(state=CommandState.DELIVERED)
    assert [each.command for each in delivery.claim_due()] == [second.pk]


def test_one_that_is_never_receipted_does_not_hold_up_the_rest_for_ever(
    device_a: Device, alice: User
) -> None:
    first = commands.issue(device_a, "first", {}, by=alice)
    online(device_a)
    second = commands.issue(device_a, "second", {}, by=alice)
    Command.objects.filter(pk=first.pk).update(
        state=CommandState.SENT, sends=3, sent_at=timezone.now()
    )
    assert [each.command for each in delivery.claim_due()] == [second.pk]


def test_nothing_is_sent_to_a_device_that_is_revoked(device_a: Device, alice: User) -> None:
    row = commands.issue(device_a, "ping", {}, by=alice)
    online(device_a)
    Device.objects.update(revoked_at=timezone.now())
    assert delivery.claim_due() == []
    age(row, deadline=timedelta(seconds=1))
    delivery.sweep()
    row.refresh_from_db()
    assert (row.state, row.error[:22]) == (CommandState.EXPIRED, "the device was revoked")


def test_what_did_not_leave_waits_again_as_if_it_had_never_been_sent(
    device_a: Device, alice: User
) -> None:
    row = commands.issue(device_a, "ping", {}, by=alice)
    plain_agent(device_a)
    unsent = delivery.claim_due()
    delivery.mark_published([], unsent)
    row.refresh_from_db()
    assert (row.state, row.sends, row.sent_at) == (CommandState.QUEUED, 0, None)
    assert len(delivery.claim_due()) == 1


@pytest.mark.parametrize("said", [{"receipts": False}, {}])
def test_an_agent_without_receipts_gets_it_once_and_its_silence_is_a_failure(
    device_a: Device, alice: User, said: dict[str, bool]
) -> None:
    row = commands.issue(device_a, "ping", {}, by=alice)
    plain_agent(device_a)
    Connectivity.objects.update(capabilities=said)
    assert len(delivery.claim_due()) == 1
    age(row, sent_at=timedelta(minutes=11))
    assert delivery.claim_due() == []
    delivery.sweep()
    row.refresh_from_db()
    assert (row.state, row.error) == (CommandState.FAILED, "no response")


@pytest.mark.parametrize("grace", ["usual", "unstable", "server"])
def test_in_the_grace_after_its_disconnect_an_agent_without_receipts_is_sent_nothing(
    device_a: Device, alice: User, grace: str, settings: Settings
) -> None:
    settings.PRESENCE_GRACE_SECONDS = settings.PRESENCE_UNSTABLE_GRACE_SECONDS = 600
    settings.PRESENCE_SERVER_GRACE_SECONDS = 600
    ended(*plain_agent(device_a))
    match grace:
        case "unstable":
            Connectivity.objects.update(unstable_until=timezone.now() + timedelta(minutes=5))
        case "server":
            BrokerSession.objects.update(end_reason=BrokerSession.SERVER_GONE)
    row = commands.issue(device_a, "ping", {}, by=alice)
    assert Connectivity.objects.get(device=device_a).presence == Presence.ONLINE
    assert delivery.claim_due() == []
    Connectivity.objects.update(
        capabilities={"receipts": True}, capabilities_at=F("last_heartbeat")
    )
    assert [each.command for each in delivery.claim_due()] == [row.pk], "it would be sent again"


def test_a_connection_that_ends_while_its_command_is_claimed_is_not_taken_for_receipts(
    device_a: Device, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    (connection,) = plain_agent(device_a)
    commands.issue(device_a, "ping", {}, by=alice)
    mark_sent = delivery._mark_sent

    def end_meanwhile(rows: Sequence[Command]) -> None:
        mark_sent(rows)
        ended(connection)

    monkeypatch.setattr(delivery, "_mark_sent", end_meanwhile)
    assert [each.connections for each in delivery.claim_due()] == [()]


def test_of_several_connections_of_an_agent_without_receipts_one_that_lives_is_enough(
    device_a: Device, alice: User
) -> None:
    first, second = plain_agent(device_a, connections=2)
    ended(first)
    row = commands.issue(device_a, "ping", {}, by=alice)
    assert [each.command for each in delivery.claim_due()] == [row.pk]
    ended(second)
    commands.issue(device_a, "ping", {}, by=alice)
    assert delivery.claim_due() == []


def test_an_agent_without_receipts_that_is_back_gets_its_command_once_it_has_spoken(
    device_a: Device, alice: User
) -> None:
    ended(*plain_agent(device_a))
    row = commands.issue(device_a, "ping", {}, by=alice)
    began = timezone.now()
    BrokerSession.objects.create(server_id="N1", client_id=7, device=device_a, started_at=began)
    assert delivery.claim_due() == []
    Connectivity.objects.update(last_heartbeat=timezone.now())
    assert [each.command for each in delivery.claim_due()] == [row.pk]


def test_an_agent_without_receipts_whose_connection_nobody_told_of_waits_until_it_is_listed(
    device_a: Device, alice: User
) -> None:
    """Its heartbeats come, and the broker's events lag behind."""
    plain_agent(device_a, connections=0)
    row = commands.issue(device_a, "ping", {}, by=alice)
    assert delivery.claim_due() == []
    listed = Session("N1", 1, device_a.pk, "", timezone.now() - timedelta(seconds=5))
    sessions.record([listed], by=Reporter.RECONCILIATION)
    assert [each.command for each in delivery.claim_due()] == [row.pk]


def test_past_its_deadline_a_waiting_command_expires_and_a_sent_one_fails(
    group_a: Group, device_a: Device, alice: User
) -> None:
    waiting = commands.issue(device_a, "ping", {}, by=alice)
    other = enrol(group_a, "other").device
    online(other)
    sent = commands.issue(other, "ping", {}, by=alice)
    delivery.claim_due()
    for row in (waiting, sent):
        age(row, deadline=timedelta(seconds=1))
    delivery.sweep()
    assert (state(waiting), state(sent)) == (CommandState.EXPIRED, CommandState.FAILED)


@pytest.mark.parametrize("loss", ["demoted", "removed", "deactivated", "deleted"])
def test_permission_is_checked_again_when_it_is_sent(
    device_a: Device, tenant_a: Tenant, alice: User, loss: str
) -> None:
    row = commands.issue(device_a, "ping", {}, by=alice)
    match loss:
        case "demoted":
            set_membership(alice, tenant_a, Role.VIEWER)
        case "removed":
            Membership.objects.filter(user=alice).delete()
        case "deactivated":
            alice.is_active = False
            alice.save()
        case "deleted":
            alice.delete()
    online(device_a)
    assert delivery.claim_due() == []
    row.refresh_from_db()
    assert row.state == CommandState.FAILED
    assert "may no longer command" in row.error


def test_only_what_waits_can_be_cancelled(device_a: Device, alice: User) -> None:
    row = commands.issue(device_a, "ping", {}, by=alice)
    commands.cancel(row, by=alice)
    assert state(row) == CommandState.CANCELLED
    with pytest.raises(CommandRefused, match="cancelled already"):
        commands.cancel(row, by=alice)
    online(device_a)
    assert delivery.claim_due() == []


@pytest.mark.parametrize("received", [False, True])
def test_what_was_sent_is_given_up_and_not_sent_again(
    device_a: Device, alice: User, received: bool
) -> None:
    row = commands.issue(device_a, "ping", {}, by=alice)
    online(device_a)
    (outgoing,) = delivery.claim_due()
    if received:
        Command.objects.update(state=CommandState.DELIVERED)
    commands.cancel(row, by=alice)
    row.refresh_from_db()
    assert (row.state, row.error) == (CommandState.FAILED, "given up by alice")
    assert row.finished_at
    entry = AuditEntry.objects.get(action=Action.COMMAND_CANCELLED)
    assert (entry.actor, entry.detail["given_up"]) == ("alice", True)
    with pytest.raises(CommandConflict, match="failed already"):
        commands.cancel(row, by=alice)
    age(row, sent_at=timedelta(minutes=11))
    delivery.mark_published([], [outgoing])
    assert delivery.claim_due() == []
    delivery.sweep()
    assert Command.objects.get().error == "given up by alice"


def test_only_what_has_ended_is_repeated_and_the_new_one_names_the_old(
    device_a: Device, alice: User
) -> None:
    row = commands.issue(device_a, "ping", {"n": 1}, by=alice)
    with pytest.raises(CommandRefused, match="only one that has ended"):
        commands.retry(row, by=alice)
    commands.cancel(row, by=alice)
    row.refresh_from_db()
    again = commands.retry(row, by=alice)
    assert (again.retry_of, again.command, again.parameters) == (row, "ping", {"n": 1})
    assert again.state == CommandState.QUEUED


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(days=31)])
def test_a_deadline_lies_ahead_and_within_a_month(
    device_a: Device, alice: User, ahead: timedelta
) -> None:
    with pytest.raises(CommandRefused, match="deadline"):
        commands.issue(device_a, "ping", {}, by=alice, deadline=timezone.now() + ahead)


class TestWithARunningSubscriber:
    @pytest.fixture
    def enrolled(self, system: System, group_a: Group) -> Enrolled:
        return enrol(group_a, "anna-laptop")

    def test_a_command_runs_through_its_states(
        self, system: System, enrolled: Enrolled, alice: User
    ) -> None:
        agent = system.running_agent(enrolled)
        agent.heartbeat()
        row = commands.issue(enrolled.device, "ping", {}, by=alice)
        received = eventually(lambda: agent.received)
        assert received[0]["payload"]["command_id"] == str(row.uuid)
        agent.answer(row.uuid, status="received")
        eventually(lambda: state(row) == CommandState.DELIVERED)
        agent.answer(row.uuid, result={"pong": True})
        eventually(lambda: state(row) == CommandState.SUCCEEDED)
        row.refresh_from_db()
        assert row.result == {"pong": True}
        assert row.finished_at

    def test_a_failure_keeps_the_agents_words(
        self, system: System, enrolled: Enrolled, alice: User
    ) -> None:
        agent = system.running_agent(enrolled)
        row = commands.issue(enrolled.device, "osquery", {}, by=alice)
        agent.answer(row.uuid, status="error", error="osquery is not installed")
        eventually(lambda: state(row) == CommandState.FAILED)
        row.refresh_from_db()
        assert row.error == "osquery is not installed"

    def test_a_sleeping_device_gets_its_command_when_it_wakes_up(
        self, system: System, enrolled: Enrolled, alice: User
    ) -> None:
        agent = system.running_agent(enrolled)
        commands.issue(enrolled.device, "ping", {}, by=alice)
        assert agent.received == []
        agent.heartbeat()
        eventually(lambda: agent.received)

    def test_an_answer_after_it_was_given_up_still_counts(
        self, system: System, enrolled: Enrolled, alice: User
    ) -> None:
        agent = system.running_agent(enrolled)
        agent.heartbeat()
        row = commands.issue(enrolled.device, "ping", {}, by=alice)
        eventually(lambda: agent.received)
        eventually(lambda: state(row) == CommandState.SENT)
        commands.cancel(row, by=alice)
        row.refresh_from_db()
        assert (row.state, row.error) == (CommandState.FAILED, "given up by alice")
        agent.answer(row.uuid)
        eventually(lambda: state(row) == CommandState.SUCCEEDED)
        row.refresh_from_db()
        assert row.error == ""

    def test_a_second_answer_changes_nothing(
        self, system: System, enrolled: Enrolled, alice: User
    ) -> None:
        agent = system.running_agent(enrolled)
        row = commands.issue(enrolled.device, "ping", {}, by=alice)
        agent.answer(row.uuid, result="first")
        agent.answer(row.uuid, status="error", error="second")
        agent.heartbeat(session_id="after")
        eventually(lambda: Connectivity.objects.filter(session_id="after").exists())
        row.refresh_from_db()
        assert (row.state, row.result) == (CommandState.SUCCEEDED, "first")

    def test_two_subscribers_share_the_work_and_send_once(
        self, system: System, enrolled: Enrolled, alice: User
    ) -> None:
        agent = system.running_agent(enrolled)
        system.start_subscriber()
        agent.heartbeat(capabilities={})
        rows = [commands.issue(enrolled.device, "ping", {}, by=alice) for _ in range(50)]
        eventually(lambda: len(agent.received) >= 50)
        ids = [each["payload"]["command_id"] for each in agent.received]
        assert sorted(ids) == sorted(str(row.uuid) for row in rows)
