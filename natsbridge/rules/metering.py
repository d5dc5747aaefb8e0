"""Measure how much each owner of connections sends, and find owners over their allowance.

An owner has one allowance for all its connections together, a leaky bucket: a number of messages
and bytes a second, and a burst on top, such as that of an agent that sends what it has kept while
it was offline. Most connections send next to nothing; only busy ones have their owner looked up.
"""

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

Owner = TypeVar("Owner", bound=Hashable)
# A server's id, and its number for the connection.
ConnectionKey = tuple[str, int]

# The owner of a connection that uses less than this part of the allowance is not looked up.
BUSY = 0.05
# The traffic that an older connection had before it was first seen tells nothing about its rate.
YOUNG_SECONDS = 30.0
# How long a connection is remembered that is not listed any more.
FORGOTTEN_SECONDS = 300.0
# The part of its burst that an owner has used up when it comes back after a disconnect.
PROBATION = 0.9


class Allowance(NamedTuple):
    """How much one owner may send a second, and in one burst."""

    messages: float
    messages_burst: float
    bytes: float
    bytes_burst: float


class Traffic(NamedTuple):
    """What a server has counted of one connection since it began, `age` seconds ago."""

    connection: ConnectionKey
    age: float
    messages: int
    bytes: int


class Excess(NamedTuple):
    """The recent rates of an owner over its allowance."""

    messages_per_second: float
    bytes_per_second: float
    connections: tuple[ConnectionKey, ...]


@dataclass
class _Bucket:
    messages: float = 0.0
    bytes: float = 0.0
    at: float = 0.0
    # What was poured since the last drain, and the seconds that it took.
    recent_messages: float = 0.0
    recent_bytes: float = 0.0
    recent_seconds: float = 1.0

    def pour(self, messages: float, bytes: float) -> None:
        self.messages += messages
        self.bytes += bytes
        self.recent_messages += messages
        self.recent_bytes += bytes

    def drain(self, now: float, allowance: Allowance) -> None:
        passed = now - self.at
        self.messages = max(0.0, self.messages - passed * allowance.messages)
        self.bytes = max(0.0, self.bytes - passed * allowance.bytes)
        self.recent_messages = self.recent_bytes = 0.0
        self.recent_seconds = max(passed, 0.1)
        self.at = now

    def is_over(self, allowance: Allowance) -> bool:
        return self.messages > allowance.messages_burst or self.bytes > allowance.bytes_burst


@dataclass
class _Connection(Generic[Owner]):
    messages: int
    bytes: int
    at: float
    owner: Owner | None = None
    is_known: bool = False
    # What is not in an owner's bucket yet, since the owner was not known.
    new_messages: float = 0.0
    new_bytes: float = 0.0


@dataclass
class Meter(Generic[Owner]):
    """Meters owners: `observe` traffic, `identify` the connections returned, then get `excesses`.

    `now` is in seconds, of any clock that only goes forward.
    """

    allowance: Allowance
    _connections: dict[ConnectionKey, _Connection[Owner]] = field(default_factory=dict)
    _buckets: dict[Owner, _Bucket] = field(default_factory=dict)

    def observe(self, traffic: Iterable[Traffic], now: float) -> list[ConnectionKey]:
        """Take in the counts; return busy connections of unknown owners, the busiest first."""
        unknown: list[tuple[float, ConnectionKey]] = []
        for each in traffic:
            known = self._connections.get(each.connection)
            if known is None:
                self._connections[each.connection] = known = self._first(each, now)
                passed = max(each.age, 0.1)
            else:
                passed = max(now - known.at, 0.1)
                known.new_messages += max(each.messages - known.messages, 0)
                known.new_bytes += max(each.bytes - known.bytes, 0)
                known.messages, known.bytes, known.at = each.messages, each.bytes, now
            if not known.is_known and (share := self._share(known, passed)) > BUSY:
                unknown.append((share, each.connection))
            elif not known.is_known:
                known.new_messages = known.new_bytes = 0.0
        self._forget(now)
        return [connection for _, connection in sorted(unknown, reverse=True)]

    def identify(self, connection: ConnectionKey, owner: Owner | None) -> None:
        """Remember the owner of a connection; one without an owner has no allowance."""
        if known := self._connections.get(connection):
            known.owner, known.is_known = owner, True

    def excesses(self, now: float) -> dict[Owner, Excess]:
        """Return the owners that are over the allowance by what was observed until now."""
        for bucket in self._buckets.values():
            if now > bucket.at:
                bucket.drain(now, self.allowance)
        owned: dict[Owner, list[ConnectionKey]] = {}
        for key, each in self._connections.items():
            if each.is_known and each.owner is not None:
                bucket = self._buckets.setdefault(each.owner, _Bucket(at=now))
                bucket.pour(each.new_messages, each.new_bytes)
                owned.setdefault(each.owner, []).append(key)
            if each.is_known:
                each.new_messages = each.new_bytes = 0.0
        return {
            owner: Excess(
                bucket.recent_messages / bucket.recent_seconds,
                bucket.recent_bytes / bucket.recent_seconds,
                tuple(owned[owner]),
            )
            for owner, bucket in self._buckets.items()
            if bucket.is_over(self.allowance) and owner in owned
        }

    def suspect(self, owner: Owner, now: float) -> None:
        """Put an owner on probation because one like it was disconnected."""
        bucket = self._buckets.setdefault(owner, _Bucket(at=now))
        bucket.messages = max(bucket.messages, PROBATION * self.allowance.messages_burst)
        bucket.bytes = max(bucket.bytes, PROBATION * self.allowance.bytes_burst)

    def disconnected(self, owner: Owner, connections: Collection[ConnectionKey]) -> None:
        """Put an owner on probation whose connections were ended."""
        bucket = self._buckets[owner]
        bucket.messages = min(bucket.messages, PROBATION * self.allowance.messages_burst)
        bucket.bytes = min(bucket.bytes, PROBATION * self.allowance.bytes_burst)
        # Servers list ended connections for a while, with their counts.
        for connection in connections:
            self._connections[connection].owner = None

    def _first(self, seen: Traffic, now: float) -> _Connection[Owner]:
        found: _Connection[Owner] = _Connection(seen.messages, seen.bytes, now)
        if seen.age <= YOUNG_SECONDS:
            found.new_messages, found.new_bytes = seen.messages, seen.bytes
        return found

    def _share(self, each: _Connection[Owner], passed: float) -> float:
        """Return the part of the allowance that it used recently, by messages or bytes."""
        return max(
            each.new_messages / passed / self.allowance.messages,
            each.new_bytes / passed / self.allowance.bytes,
        )

    def _forget(self, now: float) -> None:
        long_ago = now - FORGOTTEN_SECONDS
        for key in [key for key, each in self._connections.items() if each.at < long_ago]:
            del self._connections[key]
        living = {each.owner for each in self._connections.values()}
        for owner in [
            owner
            for owner, bucket in self._buckets.items()
            if owner not in living and bucket.at < long_ago
        ]:
            del self._buckets[owner]
