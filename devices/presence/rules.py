"""Pure: what may be said of a device now, from what the broker and its own messages tell.

The broker says who connects and who leaves; a device's messages confirm that it lives. Two
sources, and several subscribers that hear of things in any order: so every rule here looks at all
that is known, and none at what came last.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """As the API and the pages say it."""

    ONLINE = "Online"
    STALE = "Stale"
    OFFLINE = "Offline"
    UNKNOWN = "Unknown"


class Presence(StrEnum):
    """Whether a device is connected."""

    ONLINE = "online"
    OFFLINE = "offline"


class Reporter(StrEnum):
    """Who can say that a device is there or gone."""

    CONNECT = "connect"
    DISCONNECT = "disconnect"
    HEARTBEAT = "heartbeat"
    RECONCILIATION = "reconciliation"

    @property
    def spelt_out(self) -> str:
        return _REPORTERS[self]


_REPORTERS = {
    Reporter.CONNECT: "the broker, as it connected",
    Reporter.DISCONNECT: "the broker, as it disconnected",
    Reporter.HEARTBEAT: "its own heartbeat",
    Reporter.RECONCILIATION: "the broker's list of connections",
}


@dataclass(frozen=True)
class Watch:
    """Whether anybody was listening: the last sign of a subscriber connected to the broker, and
    the latest gap between two such signs. Silence of a device in a gap means nothing."""

    last_beat: datetime | None = None
    gap_started: datetime | None = None
    gap_ended: datetime | None = None


@dataclass(frozen=True)
class Cutoffs:
    """Status by the time a device was last seen.

    At or after `online_since`: online. Before `offline_before`: offline. In between: unknown
    where it is before `unknown_before` (nobody listened, and the device has not had the time to
    speak since), else stale. `blind`: nobody is listening now, so all are unknown.
    """

    blind: bool
    online_since: datetime
    offline_before: datetime
    unknown_before: datetime

    def status_of(self, last_seen: datetime | None, *, gone: bool = False) -> Status:
        """`gone`: it has disconnected, and not come back within its grace."""
        if self.blind:
            return Status.UNKNOWN
        if gone or last_seen is None or last_seen < self.offline_before:
            return Status.OFFLINE
        if last_seen >= self.online_since:
            return Status.ONLINE
        return Status.UNKNOWN if last_seen < self.unknown_before else Status.STALE


# A subscriber says every 5 s that it listens; three missed say that it does not.
BLIND_AFTER = timedelta(seconds=15)


def cutoffs(watch: Watch, now: datetime, online: timedelta, stale: timedelta) -> Cutoffs:
    """`online` and `stale`: how long a device may be silent before it is stale, and offline."""
    blind = watch.last_beat is None or now - watch.last_beat > BLIND_AFTER
    online_since = now - online
    offline_before = now - stale
    recently_blind = False
    if watch.gap_started and watch.gap_ended and watch.gap_ended > offline_before:
        # Time in the gap does not count as silence.
        offline_before -= watch.gap_ended - watch.gap_started
        recently_blind = now - watch.gap_ended < online
    unknown_before = watch.gap_ended if watch.gap_ended and recently_blind else offline_before
    return Cutoffs(blind, online_since, offline_before, unknown_before)


@dataclass(frozen=True)
class Grace:
    """How long a device may take to connect again before its disconnection counts."""

    usual: timedelta
    unstable: timedelta
    # A whole server's clients come back one after the other.
    server: timedelta


# So many connections ended within the window: the link comes and goes.
UNSTABLE_ENDS = 4
UNSTABLE_WINDOW = timedelta(minutes=5)
# What a device sent just before its connection ended may be stored just after.
LAST_WORDS = timedelta(seconds=2)


@dataclass(frozen=True)
class Known:
    """What stands in a device's row; `presence` is None while nobody has said anything."""

    presence: Presence | None = None
    at: datetime | None = None
    by: Reporter | None = None
    last_seen: datetime | None = None
    offline_due_at: datetime | None = None
    unstable_until: datetime | None = None


class Current(NamedTuple):
    """A device's presence beside its status: since when, and who reported it. None where nobody
    knows, or nobody reported it: it has been revoked, or silent for too long."""

    presence: Presence | None = None
    since: datetime | None = None
    by: Reporter | None = None


def current(status: Status, known: Known, revoked_at: datetime | None = None) -> Current:
    """Return what the status lets one say: what stands in the row may be older than the status."""
    if status is Status.UNKNOWN:
        return Current()
    presence = Presence.OFFLINE if status is Status.OFFLINE else Presence.ONLINE
    if known.presence is presence:
        return Current(presence, known.at, known.by)
    return Current(presence, revoked_at or known.last_seen if status is Status.OFFLINE else None)


class Sessions(NamedTuple):
    """The connections of a device: since when it has one that lives, when the newest of all
    began, when and why the last one ended, how many ended within UNSTABLE_WINDOW, and how many
    live."""

    live_since: datetime | None = None
    newest_start: datetime | None = None
    ended_at: datetime | None = None
    reason: str = ""
    server_ended: bool = False
    recent_ends: int = 0
    live: int = 0


class Change(NamedTuple):
    """One line of a device's history."""

    presence: Presence
    at: datetime
    by: Reporter
    reason: str = ""


def settle(
    known: Known, sessions: Sessions, grace: Grace, now: datetime, *, by: Reporter
) -> tuple[Known, list[Change]]:
    """After its sessions changed: it is there, or its going is due. `by` told of them."""
    changes: list[Change] = []
    since = _arrival(known, sessions, now)
    if since is not None:
        changes.append(Change(Presence.ONLINE, since, by))
        known = replace(known, presence=Presence.ONLINE, at=since, by=by)
    known = replace(known, last_seen=_latest(known.last_seen, sessions.newest_start))
    if sessions.recent_ends >= UNSTABLE_ENDS and sessions.ended_at:
        until = sessions.ended_at + UNSTABLE_WINDOW
        known = replace(known, unstable_until=_latest(known.unstable_until, until))
    if sessions.live_since is not None or _has_spoken_since(known, sessions.ended_at):
        known = replace(known, offline_due_at=None)
    elif known.presence is Presence.ONLINE and sessions.ended_at is not None:
        due = sessions.ended_at + _grace(known, sessions, grace, now)
        known = replace(known, offline_due_at=_latest(known.offline_due_at, due))
    return known, changes


def sweep(known: Known, sessions: Sessions, grace: Grace) -> tuple[Known, list[Change]]:
    """Once its going is due: it is gone, unless it has come back or spoken meanwhile."""
    due, known = known.offline_due_at, replace(known, offline_due_at=None)
    if due is None or sessions.live_since is not None or known.presence is Presence.OFFLINE:
        return known, []
    if _has_spoken_since(known, sessions.ended_at or due - grace.usual - LAST_WORDS):
        return known, []
    announced = sessions.ended_at is not None and not sessions.server_ended
    by = Reporter.DISCONNECT if announced else Reporter.RECONCILIATION
    # It was there up to then; and no change may stand before the one that it follows.
    at = _latest(sessions.ended_at or known.last_seen or due, known.at) or due
    change = Change(Presence.OFFLINE, at, by, sessions.reason)
    return replace(known, presence=Presence.OFFLINE, at=at, by=by), [change]


def _arrival(known: Known, sessions: Sessions, now: datetime) -> datetime | None:
    """Since when it is there, if that is news. A connection that has ended already is news too
    where it began after the device was thought to be gone."""
    if known.presence is Presence.ONLINE:
        return None
    start = sessions.live_since or sessions.newest_start
    if start is not None and (known.at is None or start > known.at):
        return start
    return now if sessions.live_since is not None else None


def _has_spoken_since(known: Known, moment: datetime | None) -> bool:
    return bool(moment and known.last_seen and known.last_seen > moment + LAST_WORDS)


def _grace(known: Known, sessions: Sessions, grace: Grace, now: datetime) -> timedelta:
    if sessions.server_ended:
        return max(grace.server, grace.usual)
    unstable = known.unstable_until is not None and known.unstable_until > now
    return max(grace.unstable, grace.usual) if unstable else grace.usual


def _latest(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


class Span(NamedTuple):
    """A stretch of a device's history; None where nobody knows."""

    presence: Presence | None
    start: datetime
    end: datetime


def timeline(
    changes: Iterable[tuple[Presence, datetime]],
    start: datetime,
    end: datetime,
    blind: Iterable[tuple[datetime, datetime]] = (),
) -> list[Span]:
    """The spans that fill `start` to `end`. `changes` are in order and may begin before `start`;
    `blind` are times in which nobody listened."""
    spans: list[Span] = []
    for span in _between(changes, start, end):
        pieces = [span]
        for gap_start, gap_end in blind:
            pieces = [part for piece in pieces for part in _cut(piece, gap_start, gap_end)]
        for piece in pieces:
            if spans and spans[-1].presence is piece.presence:
                spans[-1] = spans[-1]._replace(end=piece.end)
            else:
                spans.append(piece)
    return spans


def _between(
    changes: Iterable[tuple[Presence, datetime]], start: datetime, end: datetime
) -> Iterator[Span]:
    state: Presence | None = None
    at = start
    for presence, moment in changes:
        if at < moment < end:
            yield Span(state, at, moment)
            at = moment
        if moment < end:
            state = presence
    if at < end:
        yield Span(state, at, end)


def _cut(span: Span, start: datetime, end: datetime) -> Iterator[Span]:
    """The span with the time from `start` to `end` made unknown."""
    start, end = max(start, span.start), min(end, span.end)
    if start >= end:
        yield span
        return
    if span.start < start:
        yield span._replace(end=start)
    yield Span(None, start, end)
    if end < span.end:
        yield span._replace(start=end)
