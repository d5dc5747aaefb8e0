"""What heartbeats leave out, and for which connection they claim receipts."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.commands import delivery
from devices.commands import issue as commands
from devices.models import BrokerSession, Command, Connectivity, Device, Reporter
from devices.presence import heartbeats, sessions
from devices.presence.sessions import Session
from natsbridge.protocol import envelope
from natsbridge.protocol.envelope import Message, RawMessage
from natsbridge.subscriber.status import beat
from tenants.models import User

pytestmark = pytest.mark.usefixtures("redis_server")

# Set anew for each test: what counts as online is reckoned from the present.
START = timezone.now()
FULL = {
    "agent_version": "2.1",
    "session_id": "s",
    "capabilities": {"receipts": True, "commands": [{"name": "ping"}]},
    "system_info": {"hostname": "anna", "platform": "Linux"},
    "status": {"uptime": 5},
}


@pytest.fixture(autouse=True)
def _start_shortly_before_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.START", timezone.now() - timedelta(seconds=100))


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def message(device: Device, body: Any, seconds: float) -> Message:
    data = json.dumps(body).encode()
    tenant = device.tenant_id
    decoded = envelope.decode("heartbeat", data, tenant=tenant, device=device.pk)
    raw = RawMessage("ingest", data, {}, at(seconds))
    account = device.tenant.broker_account.public_key
    return Message(account, tenant, device.pk, "heartbeat", decoded, raw)


def heard(device: Device, *bodies: Any, seconds: float = 0.0) -> Connectivity:
    """In one batch, a second apart."""
    batch = [message(device, body, seconds + number) for number, body in enumerate(bodies)]
    assert heartbeats.record_heartbeats(batch) == []
    return Connectivity.objects.get(device=device)


def said(row: Connectivity) -> dict[str, Any]:
    return {
        "agent_version": row.agent_version,
        "session_id": row.session_id,
        "capabilities": row.capabilities,
        **row.connection_info,
    }


@pytest.mark.parametrize(
    "sparse",
    [
        {},
        {"status": None, "agent_version": None, "capabilities": None, "system_info": None},
        {"session_id": None, "timestamp": None, "timestamp_ms": None},
        {"agent_version": ""},
    ],
)
@pytest.mark.parametrize("batches", [1, 2])
def test_what_a_heartbeat_does_not_mention_is_kept(
    device_a: Device, sparse: dict[str, Any], batches: int
) -> None:
    if batches == 1:
        heard(device_a, FULL, sparse)
    else:
        heard(device_a, FULL)
        heard(device_a, sparse, seconds=1)
    row = Connectivity.objects.get(device=device_a)
    assert said(row) == FULL
    assert row.last_heartbeat == at(1)


def test_a_heartbeat_of_status_alone_replaces_the_status_alone(device_a: Device) -> None:
    heard(device_a, FULL)
    assert said(heard(device_a, {"status": "online"}, seconds=1)) == FULL | {"status": "online"}


def test_an_empty_object_is_a_value(device_a: Device) -> None:
    heard(device_a, FULL)
    empty: dict[str, Any] = {"capabilities": {}, "system_info": {}, "status": {}}
    assert said(heard(device_a, empty, seconds=1)) == FULL | empty


def test_the_clock_of_a_device_stays_known_when_a_heartbeat_gives_no_time(device_a: Device) -> None:
    heard(device_a, {"timestamp": at(3600).timestamp()})
    assert heard(device_a, {}, seconds=1).clock_is_off


def test_a_heartbeat_that_comes_late_changes_nothing(device_a: Device) -> None:
    heard(device_a, FULL, seconds=10)
    assert said(heard(device_a, {"agent_version": "1", "capabilities": {}}, seconds=5)) == FULL


some = st.fixed_dictionaries(
    {},
    optional={
        "agent_version": st.sampled_from(["1", "2", None]),
        "session_id": st.sampled_from(["a", "b", None]),
        "capabilities": st.sampled_from([{}, {"receipts": True}, {"tools": ["x"]}, None]),
        "status": st.sampled_from([{}, "online", {"load": 1}, None]),
    },
)


@pytest.mark.django_db
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(bodies=st.lists(some, min_size=1, max_size=5), cut=st.integers(0, 5))
def test_it_makes_no_difference_in_which_batches_heartbeats_come(
    device_a: Device, bodies: list[Any], cut: int
) -> None:
    outcomes = []
    for batches in ([bodies], [bodies[:cut], bodies[cut:]], [[body] for body in bodies]):
        Connectivity.objects.filter(device=device_a).delete()
        Connectivity.objects.create(device=device_a)
        number = 0
        for batch in batches:
            heard(device_a, *batch, seconds=number)
            number += len(batch)
        row = Connectivity.objects.get(device=device_a)
        outcomes.append((said(row), row.capabilities_at, row.last_heartbeat))
    assert outcomes[0] == outcomes[1] == outcomes[2]


def connection(
    device: Device, number: int, began: float, ended: float | None = None, reason: str = "gone"
) -> None:
    BrokerSession.objects.create(
        server_id="N1",
        client_id=number,
        device=device,
        started_at=at(began),
        ended_at=None if ended is None else at(ended),
        end_reason="" if ended is None else reason,
    )


def gives_receipts(device: Device) -> bool:
    return Connectivity.objects.giving_receipts().filter(device=device).exists()


CLAIM = {"capabilities": {"receipts": True}}


def test_receipts_hold_for_the_connection_over_which_they_were_claimed(device_a: Device) -> None:
    assert not gives_receipts(device_a)
    connection(device_a, 1, 0)
    heard(device_a, CLAIM, seconds=1)
    assert gives_receipts(device_a)
    heard(device_a, {"status": "online"}, seconds=30)
    assert gives_receipts(device_a)


def test_a_new_connection_gives_no_receipts_until_its_own_heartbeat_claims_them(
    device_a: Device,
) -> None:
    connection(device_a, 1, 0, ended=20)
    heard(device_a, CLAIM, seconds=1)
    assert gives_receipts(device_a), "nothing is known of another agent"
    connection(device_a, 2, 21)
    assert not gives_receipts(device_a)
    heard(device_a, {"status": "online"}, seconds=22)
    assert not gives_receipts(device_a)
    heard(device_a, CLAIM, seconds=23)
    assert gives_receipts(device_a)


def test_what_two_connections_may_have_claimed_neither_has(device_a: Device) -> None:
    connection(device_a, 1, 0)
    connection(device_a, 2, 10)
    heard(device_a, CLAIM, seconds=11)
    assert not gives_receipts(device_a)
    BrokerSession.objects.filter(client_id=1).update(ended_at=at(20), end_reason="Client Closed")
    assert not gives_receipts(device_a), "it may have been the claimant"
    heard(device_a, CLAIM, seconds=21)
    assert gives_receipts(device_a)


@pytest.mark.parametrize("reason", BrokerSession.UNANNOUNCED)
def test_a_connection_that_was_found_gone_later_is_not_taken_for_a_second_one(
    device_a: Device, reason: str
) -> None:
    connection(device_a, 1, 0, ended=20, reason=reason)
    connection(device_a, 2, 10)
    heard(device_a, CLAIM, seconds=11)
    assert gives_receipts(device_a)


def test_a_heartbeat_of_a_connection_that_nobody_has_told_of_yet_claims_only_for_itself(
    device_a: Device,
) -> None:
    """The broker's events lag behind the heartbeats, as after the subscriber was away."""
    connection(device_a, 1, 0, ended=20)
    heard(device_a, CLAIM, seconds=1)
    heard(device_a, {"status": "online"}, seconds=30)
    assert not gives_receipts(device_a)
    heard(device_a, CLAIM, seconds=31)
    assert gives_receipts(device_a)


def test_another_session_of_an_agent_has_no_receipts_of_the_one_before(device_a: Device) -> None:
    connection(device_a, 1, 0)
    heard(device_a, FULL, {"status": "online", "session_id": "s"})
    assert gives_receipts(device_a)
    row = heard(device_a, {"session_id": "another"}, seconds=5)
    assert not gives_receipts(device_a)
    assert row.capabilities == {"commands": [{"name": "ping"}]}


class TestACommandThatMayHaveRun:
    """Sent to an agent that gives receipts, and not receipted; its agent is then replaced."""

    @pytest.fixture
    def sent(self, device_a: Device, alice: User) -> Command:
        beat("test", started_at=timezone.now(), connected=True, details={})
        connection(device_a, 1, 0)
        heard(device_a, CLAIM, seconds=95)
        row = commands.issue(device_a, "ping", {}, by=alice)
        assert [each.command for each in delivery.claim_due()] == [row.pk]
        Command.objects.update(sent_at=at(40))
        began = at(96)
        ended = Session("N1", 1, device_a.pk, "", at(0), began, "Client Closed")
        sessions.record([ended], by=Reporter.DISCONNECT)
        sessions.record([Session("N1", 2, device_a.pk, "", began)], by=Reporter.CONNECT)
        return row

    def test_is_not_sent_again_to_a_replacement_that_does_not_claim_receipts(
        self, device_a: Device, sent: Command
    ) -> None:
        assert delivery.claim_due() == []
        heard(device_a, {"status": "online"}, seconds=97)
        assert delivery.claim_due() == []

    def test_is_sent_again_once_the_same_agent_is_back_and_has_claimed_them(
        self, device_a: Device, sent: Command
    ) -> None:
        heard(device_a, CLAIM, seconds=97)
        assert [each.command for each in delivery.claim_due()] == [sent.pk]

    def test_is_not_given_up_while_the_agent_that_is_back_may_still_claim_them(
        self, device_a: Device, sent: Command
    ) -> None:
        Command.objects.update(sent_at=timezone.now() - timedelta(hours=1))
        delivery.sweep()
        sent.refresh_from_db()
        assert sent.state == "sent"
        BrokerSession.objects.update(started_at=timezone.now() - timedelta(minutes=5))
        Connectivity.objects.update(capabilities_at=timezone.now() - timedelta(minutes=6))
        delivery.sweep()
        sent.refresh_from_db()
        assert (sent.state, sent.error) == ("failed", "no response")
