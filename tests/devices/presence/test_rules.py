"""What may be said of a device, from when it was last seen and who was listening."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.models import Connectivity, Device
from devices.presence.rules import (
    Coverage,
    Grace,
    Known,
    Presence,
    Reporter,
    Sessions,
    Status,
    after_sessions,
    cutoffs,
    sweep,
    timeline,
)
from tenants.models import Group
from tests.support.people import enrol

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ONLINE, STALE = timedelta(minutes=2), timedelta(minutes=10)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def said(last_seen: datetime | None, coverage: Coverage) -> Status:
    return cutoffs(coverage, NOW, ONLINE, STALE).status_of(last_seen)


ALWAYS = Coverage(last_beat=NOW)


@pytest.mark.parametrize(
    ("minutes", "status"),
    [(0, "Online"), (1.9, "Online"), (2.1, "Stale"), (9.9, "Stale"), (10.1, "Offline")],
)
def test_silence_goes_from_online_over_stale_to_offline(minutes: float, status: str) -> None:
    assert said(ago(minutes), ALWAYS) == status


def test_a_device_never_seen_is_offline() -> None:
    assert said(None, ALWAYS) is Status.OFFLINE


@pytest.mark.parametrize("coverage", [Coverage(), Coverage(last_beat=ago(0.5))])
def test_nobody_listening_means_unknown_and_never_a_mass_offline(coverage: Coverage) -> None:
    assert {said(ago(minutes), coverage) for minutes in (0, 5, 500)} == {Status.UNKNOWN}


def after_a_gap(ended: float) -> Coverage:
    """An hour in which nobody listened, over since `ended` minutes."""
    return Coverage(last_beat=NOW, gap_started=ago(ended + 60), gap_ended=ago(ended))


def test_after_a_gap_a_device_has_the_time_of_a_heartbeat_to_speak() -> None:
    coverage = after_a_gap(ended=1)
    assert said(ago(0.5), coverage) is Status.ONLINE
    assert said(ago(62), coverage) is Status.UNKNOWN
    assert said(ago(69), coverage) is Status.UNKNOWN


def test_a_device_that_was_offline_before_the_gap_is_offline_after_it() -> None:
    assert said(ago(75), after_a_gap(ended=1)) is Status.OFFLINE


def test_a_device_that_stays_silent_after_a_gap_is_stale_and_then_offline() -> None:
    assert said(ago(66), after_a_gap(ended=3)) is Status.STALE
    assert said(ago(71), after_a_gap(ended=9)) is Status.OFFLINE


@pytest.mark.parametrize("coverage", [ALWAYS, Coverage(), after_a_gap(1), after_a_gap(5)])
def test_the_filter_finds_what_the_status_says(group_a: Group, coverage: Coverage) -> None:
    now = cutoffs(coverage, NOW, ONLINE, STALE)
    for minutes in (None, 0, 1.5, 3, 9, 11, 61.5, 62, 64, 66, 69, 75, 500):
        device = enrol(group_a, f"seen {minutes}").device
        seen = None if minutes is None else ago(minutes)
        Connectivity.objects.filter(device=device).update(last_seen_online=seen)
        gone = enrol(group_a, f"gone, seen {minutes}").device
        Connectivity.objects.filter(device=gone).update(last_seen_online=seen, presence="offline")
        revoked = enrol(group_a, f"revoked, seen {minutes}").device
        Connectivity.objects.filter(device=revoked).update(last_seen_online=seen)
        Device.objects.filter(pk=revoked.pk).update(revoked_at=NOW)
    Connectivity.objects.filter(device=enrol(group_a, "no row").device).delete()
    for status in Status:
        found = set(Device.objects.with_status(status, now))
        expected = {
            device
            for device in Device.objects.select_related("connectivity")
            if device.status(now) is status
        }
        assert found == expected


def test_a_device_that_has_left_is_offline_however_lately_it_spoke() -> None:
    now = cutoffs(ALWAYS, NOW, ONLINE, STALE)
    assert now.status_of(ago(0), gone=True) is Status.OFFLINE
    assert cutoffs(Coverage(), NOW, ONLINE, STALE).status_of(ago(0), gone=True) is Status.UNKNOWN


GRACE = Grace(timedelta(seconds=3), timedelta(seconds=30), timedelta(seconds=60))
ONLINE_SINCE = Known(Presence.ONLINE, ago(60), Reporter.CONNECT, last_seen=ago(1))


def after(sessions: Sessions, known: Known = ONLINE_SINCE) -> tuple[Known, list[Presence]]:
    present, changes = after_sessions(known, sessions, GRACE, NOW, by=Reporter.CONNECT)
    return present, [change.presence for change in changes]


def due_after(sessions: Sessions) -> float:
    due = after(sessions)[0].offline_due_at
    assert due is not None
    return (due - NOW).total_seconds()


def test_the_end_of_the_last_connection_counts_after_its_grace() -> None:
    ended = Sessions(newest_start=ago(60), ended_at=NOW, reason="Client Closed")
    assert due_after(ended) == 3
    assert due_after(ended._replace(recent_ends=3)) == 3
    assert due_after(ended._replace(recent_ends=4)) == 30
    assert due_after(ended._replace(server_ended=True)) == 60
    assert after(ended)[1] == []


def test_a_device_that_comes_back_within_its_grace_never_left() -> None:
    leaving, _ = after(Sessions(newest_start=ago(60), ended_at=NOW))
    back = Sessions(live_since=NOW, newest_start=NOW, ended_at=NOW)
    known, changes = after(back, leaving)
    assert (known.presence, known.at, changes) == (Presence.ONLINE, ago(60), [])
    assert known.offline_due_at is None


def test_once_due_it_is_gone_since_its_connection_ended() -> None:
    sessions = Sessions(newest_start=ago(60), ended_at=ago(0.5), reason="Stale Connection")
    known, changes = sweep(after(sessions)[0], sessions, GRACE)
    assert (known.presence, known.at) == (Presence.OFFLINE, ago(0.5))
    assert [(each.by, each.reason) for each in changes] == [
        (Reporter.DISCONNECT, "Stale Connection")
    ]


def test_who_has_spoken_since_its_last_known_connection_ended_is_there() -> None:
    sessions = Sessions(newest_start=ago(60), ended_at=ago(2))
    leaving, _ = after(sessions, Known(Presence.ONLINE, ago(60), last_seen=ago(2)))
    spoke = Known(Presence.ONLINE, ago(60), last_seen=ago(1), offline_due_at=NOW)
    assert leaving.offline_due_at is not None
    assert sweep(spoke, sessions, GRACE) == (
        Known(Presence.ONLINE, ago(60), last_seen=ago(1)),
        [],
    )


def test_a_visit_that_is_over_when_it_is_heard_of_still_stands_in_the_history() -> None:
    gone = Known(Presence.OFFLINE, ago(30), Reporter.DISCONNECT, last_seen=ago(31))
    known, changes = after(Sessions(newest_start=ago(5), ended_at=ago(4)), gone)
    assert (known.at, changes) == (ago(5), [Presence.ONLINE])
    late, changes = after(Sessions(newest_start=ago(50), ended_at=ago(40)), gone)
    assert (late.presence, changes) == (Presence.OFFLINE, [])


moments = st.integers(0, 600).map(lambda seconds: NOW - timedelta(seconds=seconds))
visits = st.lists(st.tuples(moments, st.booleans()), min_size=1, max_size=6)


@given(visits, st.randoms(use_true_random=False))
def test_events_in_any_order_end_in_the_same_presence(
    ended: list[tuple[datetime, bool]], random: object
) -> None:
    """Each visit begins, and perhaps ends; what is known grows event by event."""
    spans = [(start, start + timedelta(seconds=20) if over else None) for start, over in ended]
    events = [(number, end) for number, span in enumerate(spans) for end in (None, span[1])]
    results = set()
    for order in (events, events[::-1], _shuffled(events, random)):
        known, seen = Known(), dict[int, datetime | None]()
        for number, end in order:
            seen[number] = end or seen.get(number)
            started = [spans[each][0] for each in seen]
            live = [spans[each][0] for each, over in seen.items() if over is None]
            over = [each for each in seen.values() if each]
            sessions = Sessions(min(live, default=None), max(started), max(over, default=None))
            known, _ = after_sessions(known, sessions, GRACE, NOW, by=Reporter.CONNECT)
        results.add((known.presence, known.offline_due_at is None))
        gone, _ = sweep(known, sessions, GRACE)
        assert (gone.presence is Presence.OFFLINE) == (not live)
    assert len(results) == 1


def _shuffled(events: list[tuple[int, datetime | None]], random: object) -> list:  # type: ignore[type-arg]
    shuffled = list(events)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    return shuffled


def test_a_timeline_is_filled_and_says_when_nobody_knew() -> None:
    changes = [(Presence.ONLINE, ago(90)), (Presence.OFFLINE, ago(30)), (Presence.ONLINE, ago(10))]
    spans = timeline(changes, ago(60), NOW, [(ago(20), ago(15)), (ago(12), ago(5))])
    assert [(span.presence, span.start) for span in spans] == [
        (Presence.ONLINE, ago(60)),
        (Presence.OFFLINE, ago(30)),
        (None, ago(20)),
        (Presence.OFFLINE, ago(15)),
        (None, ago(12)),
        (Presence.ONLINE, ago(5)),
    ]
    assert spans[-1].end == NOW
    assert timeline([], ago(60), NOW)[0].presence is None
