"""Pure: decide whether a device is online, from the broker's reports and its own messages.

The broker reports connections that begin and end; messages show that a device is alive. Several
subscribers receive both in any order, so every rule looks at all that is known, and none at which
report came last.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """A device's status in the API and on the pages."""

    ONLINE = "Online"
    STALE = "Stale"
    OFFLINE = "Offline"
    UNKNOWN = "Unknown"


class Presence(StrEnum):
    """The last reported state of a device's connection."""

    ONLINE = "online"
    OFFLINE = "offline"


class Reporter(StrEnum):
    """The source of the report that a device came online or went offline."""

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
class Coverage:
    """When subscribers were connected to the broker: their last sign of life, and the latest gap
    between two signs. That a device was silent in a gap means nothing."""

    last_beat: datetime | None = None
    gap_started: datetime | None = None
    gap_ended: datetime | None = None


@dataclass(frozen=True)
class Cutoffs:
    """The times that divide devices into statuses by when they were last seen.

    A device seen at or after `online_since` is online, one last seen before `offline_before` is
    offline. In between it is unknown before `unknown_before` (no subscriber listened, and the
    device has not had time to report since), else stale. With `blind` no subscriber is listening
    now, so every device is unknown.
    """

    blind: bool
    online_since: datetime
    offline_before: datetime
    unknown_before: datetime

    def status_of(self, last_seen: datetime | None, *, gone: bool = False) -> Status:
        """Return the status; `gone` means that the device disconnected and its grace is over."""
        if self.blind:
            return Status.UNKNOWN
        if gone or last_seen is None or last_seen < self.offline_before:
            return Status.OFFLINE
        if last_seen >= self.online_since:
            return Status.ONLINE
        return Status.UNKNOWN if last_seen < self.unknown_before else Status.STALE


# A subscriber records every 5 s that it listens; after three missed records it counts as away.
BLIND_AFTER = timedelta(seconds=15)


def cutoffs(coverage: Coverage, now: datetime, online: timedelta, stale: timedelta) -> Cutoffs:
    """Return the cutoffs at `now`. After `online` without a sign a device is stale, after `stale`
    it is offline."""
    blind = coverage.last_beat is None or now - coverage.last_beat > BLIND_AFTER
    online_since = now - online
    offline_before = now - stale
    recently_blind = False
    if coverage.gap_started and coverage.gap_ended and coverage.gap_ended > offline_before:
        # Time in the gap does not count as silence.
        offline_before -= coverage.gap_ended - coverage.gap_started
        recently_blind = now - coverage.gap_ended < online
    unknown_before = coverage.gap_ended if coverage.gap_ended and recently_blind else offline_before
    return Cutoffs(blind, online_since, offline_before, unknown_before)


@dataclass(frozen=True)
class Grace:
    """How long a device may take to reconnect before it counts as offline."""

    usual: timedelta
    unstable: timedelta
    # The clients of a server that went away come back one after the other.
    server: timedelta


# A link is unstable if this many of its connections ended within the window.
UNSTABLE_ENDS = 4
UNSTABLE_WINDOW = timedelta(minutes=5)
# A message sent just before a connection ended may be stored just after.
LAST_WORDS = timedelta(seconds=2)


@dataclass(frozen=True)
class Known:
    """The stored presence of a device; `presence` is None until something has reported it."""

    presence: Presence | None = None
    at: datetime | None = None
    by: Reporter | None = None
    last_seen: datetime | None = None
    offline_due_at: datetime | None = None
    unstable_until: datetime | None = None


class Current(NamedTuple):
    """The presence to show beside a status: since when, and what reported it.

    A field is None if it is not known, or if nothing reported it because the device was revoked or
    has been silent for too long.
    """

    presence: Presence | None = None
    since: datetime | None = None
    by: Reporter | None = None


def current(status: Status, known: Known, revoked_at: datetime | None = None) -> Current:
    """Return the presence that agrees with the status; the stored one may be out of date."""
    if status is Status.UNKNOWN:
        return Current()
    presence = Presence.OFFLINE if status is Status.OFFLINE else Presence.ONLINE
    if known.presence is presence:
        return Current(presence, known.at, known.by)
    return Current(presence, revoked_at or known.last_seen if status is Status.OFFLINE else None)


class Sessions(NamedTuple):
    """A summary of a device's connections: since when it has an open one, when the newest of all
    began, when and why the last one ended, how many ended within UNSTABLE_WINDOW, and how many are
    open."""

    live_since: datetime | None = None
    newest_start: datetime | None = None
    ended_at: datetime | None = None
    reason: str = ""
    server_ended: bool = False
    recent_ends: int = 0
    live: int = 0


class Change(NamedTuple):
    """One entry in a device's presence history."""

    presence: Presence
    at: datetime
    by: Reporter
    reason: str = ""


def is_back(known: Known, heartbeat_at: datetime) -> bool:
    """Return whether a heartbeat brings a device back online.

    A device sends its last heartbeat before its connection ends, but the message may be stored just
    after; so the heartbeat must be newer than the report by more than LAST_WORDS.
    """
    if known.presence is Presence.ONLINE:
        return False
    return known.at is None or heartbeat_at > known.at + LAST_WORDS


def after_sessions(
    known: Known, sessions: Sessions, grace: Grace, now: datetime, *, by: Reporter
) -> tuple[Known, list[Change]]:
    """Return a device's presence after its connections changed, as `by` reported: it is online, or
    its grace begins."""
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
    """Return a device's presence once its grace is over: offline, unless it has connected again or
    sent something meanwhile."""
    due, known = known.offline_due_at, replace(known, offline_due_at=None)
    if due is None or sessions.live_since is not None or known.presence is Presence.OFFLINE:
        return known, []
    if _has_spoken_since(known, sessions.ended_at or due - grace.usual - LAST_WORDS):
        return known, []
    announced = sessions.ended_at is not None and not sessions.server_ended
    by = Reporter.DISCONNECT if announced else Reporter.RECONCILIATION
    # It was online up to then; and no change may be older than the one before it.
    at = _latest(sessions.ended_at or known.last_seen or due, known.at) or due
    change = Change(Presence.OFFLINE, at, by, sessions.reason)
    return replace(known, presence=Presence.OFFLINE, at=at, by=by), [change]


def _arrival(known: Known, sessions: Sessions, now: datetime) -> datetime | None:
    """Return when an offline device came online, else None. A connection that has already ended
    counts too if it began after the device was recorded as offline."""
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
    """A stretch of a device's history; its presence is None if it is not known."""

    presence: Presence | None
    start: datetime
    end: datetime


def timeline(
    changes: Iterable[tuple[Presence, datetime]],
    start: datetime,
    end: datetime,
    blind: Iterable[tuple[datetime, datetime]] = (),
) -> list[Span]:
    """Return the spans that cover `start` to `end`. `changes` are in order and may begin before
    `start`; in the times `blind` no subscriber listened."""
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
    """Yield the parts of the span, with the time from `start` to `end` made unknown."""
    start, end = max(start, span.start), min(end, span.end)
    if start >= end:
        yield span
        return
    if span.start < start:
        yield span._replace(end=start)
    yield Span(None, start, end)
    if end < span.end:
        yield span._replace(start=end)
