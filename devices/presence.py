"""Pure: from when a device was last seen to what may be said of it now."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Status(StrEnum):
    """As the API and the pages say it."""

    ONLINE = "Online"
    STALE = "Stale"
    OFFLINE = "Offline"
    UNKNOWN = "Unknown"


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

    def status_of(self, last_seen: datetime | None) -> Status:
        if self.blind:
            return Status.UNKNOWN
        if last_seen is None or last_seen < self.offline_before:
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
