"""Whether a heartbeat brings a device back online: the SQL decides as the pure rule does."""

from datetime import timedelta
from typing import NamedTuple

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from devices.models import Connectivity, Device, PresenceChange
from devices.presence.heartbeats import record_heartbeats
from devices.presence.rules import LAST_WORDS, Known, Presence, Reporter, is_back
from natsbridge.protocol.envelope import Message, RawMessage
from natsbridge.protocol.kinds import Heartbeat
from tenants.models import Group
from tests.support.many import many_devices

DEVICES = 25


class Case(NamedTuple):
    """What is stored, and how much later than it the heartbeat comes; without `by` there is no
    row at all."""

    presence: Presence | None
    by: Reporter | None
    later: timedelta


around = [LAST_WORDS + timedelta(microseconds=some) for some in (-1, 0, 1)]
cases = st.builds(
    Case,
    st.sampled_from([*Presence, None]),
    st.sampled_from([Reporter.CONNECT, Reporter.DISCONNECT, Reporter.RECONCILIATION, None]),
    st.one_of(
        st.sampled_from(around),
        st.timedeltas(min_value=-timedelta(minutes=5), max_value=timedelta(minutes=5)),
    ),
)
EDGES = [
    Case(presence, by, later)
    for presence in (Presence.OFFLINE, Presence.ONLINE, None)
    for by in (Reporter.DISCONNECT, None)
    for later in around
]


@pytest.fixture
def devices(group_a: Group, redis_server: object) -> list[Device]:
    return many_devices(group_a, DEVICES)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(EDGES)
@given(st.lists(cases, min_size=1, max_size=DEVICES))
def test_the_sql_of_heartbeats_agrees_with_the_rule(
    devices: list[Device], group_a: Group, drawn: list[Case]
) -> None:
    heartbeat_at = timezone.now()
    PresenceChange.objects.all().delete()
    Connectivity.objects.all().delete()
    stored = {
        device.pk: Known(case.presence, heartbeat_at - case.later, case.by) if case.by else Known()
        for device, case in zip(devices, drawn, strict=False)
    }
    Connectivity.objects.bulk_create(
        Connectivity(
            device_id=device,
            presence=known.presence or "",
            presence_at=known.at,
            presence_by=known.by,
        )
        for device, known in stored.items()
        if known.by
    )
    account = group_a.tenant.broker_account.public_key
    raw = RawMessage("", b"", {}, heartbeat_at)
    rejected = record_heartbeats(
        [
            Message(account, group_a.tenant_id, device, "heartbeat", Heartbeat(), raw)
            for device in stored
        ]
    )
    assert rejected == []
    back = {device for device, known in stored.items() if is_back(known, heartbeat_at)}
    changes = PresenceChange.objects.filter(presence=Presence.ONLINE, at=heartbeat_at)
    assert sorted(changes.values_list("device", flat=True)) == sorted(back)
    for device, row in Connectivity.objects.in_bulk(list(stored)).items():
        known = stored[device]
        expected = (
            (Presence.ONLINE, heartbeat_at, Reporter.HEARTBEAT)
            if device in back
            else (known.presence, known.at, known.by)
        )
        assert (row.known.presence, row.known.at, row.known.by) == expected
