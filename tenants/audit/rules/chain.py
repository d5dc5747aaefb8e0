"""The audit's hash chain: its seals, its anchors, and what is wrong with a chain.

A seal is an HMAC over the seal before it and every field of its row, so nobody without the key can
change, insert, swap or remove a sealed row unnoticed. An anchor is a signed checkpoint that says
where the chain stood. Neither shows what happened to a row before it was sealed, nor what somebody
did who has the key.
"""

import hmac
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, astuple, dataclass
from typing import Any, Self

# Part of what is sealed. Another canonical form would be another version.
ROW_VERSION = "wegweiser audit row 1"
ANCHOR_VERSION = "wegweiser audit anchor 1"
# The seal before the first row.
GENESIS = "0" * 64


@dataclass(frozen=True)
class Row:
    """A row as Postgres prints it, so that reading it again gives the same text.

    `at` is in ISO 8601 and UTC with microseconds, `detail` the text of a jsonb value.
    """

    sequence: int
    id: int
    at: str
    tenant_uuid: str | None
    action: str
    actor_kind: str
    actor: str
    actor_id: str
    device_uuid: str | None
    target: str
    address: str
    via: str
    count: int
    detail: str

    def canonical(self, previous: str) -> bytes:
        """Return what is sealed: a JSON array, which differs for any two rows."""
        return _encoded([ROW_VERSION, previous, *(getattr(self, name) for name in _FIELDS)])


_FIELDS = tuple(Row.__dataclass_fields__)


@dataclass(frozen=True)
class Sealed:
    row: Row
    seal: str


@dataclass(frozen=True)
class Anchor:
    """A signed checkpoint: where the chain stood (`kind` head), or up to where it was pruned.

    `made_at` is in ISO 8601 and UTC, to the second.
    """

    kind: str
    sequence: int
    seal: str
    made_at: str
    mac: str = ""

    def signed(self, key: str) -> "Anchor":
        return Anchor(self.kind, self.sequence, self.seal, self.made_at, self._expected_mac(key))

    def is_genuine(self, key: str) -> bool:
        return hmac.compare_digest(self.mac.encode(), self._expected_mac(key).encode())

    def line(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":")) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Parse a line of the file. Raises ValueError."""
        content = json.loads(line)
        if not isinstance(content, dict) or content.keys() != cls.__dataclass_fields__.keys():
            raise ValueError("not an anchor")
        anchor = cls(**content)
        if [type(each) for each in astuple(anchor)] != [str, int, str, str, str]:
            raise ValueError("not an anchor")
        return anchor

    def _expected_mac(self, key: str) -> str:
        return _mac(key, [ANCHOR_VERSION, self.kind, self.sequence, self.seal, self.made_at])


HEAD, PRUNED = "head", "pruned"


def seal_of(row: Row, previous: str, key: str) -> str:
    return hmac.digest(key.encode(), row.canonical(previous), "sha256").hex()


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. Of a missing row only the sequence is known."""

    what: str
    sequence: int | None = None
    id: int | None = None
    action: str = ""

    def __str__(self) -> str:
        where = [
            "" if self.sequence is None else f"sequence {self.sequence}",
            "" if self.id is None else f"id {self.id}",
            self.action,
        ]
        place = ", ".join(part for part in where if part)
        return f"{place}: {self.what}" if place else self.what


def genuine(anchors: Iterable[Anchor], key: str, place: str) -> tuple[list[Anchor], list[Problem]]:
    """Return the genuine anchors, and a problem for each forged one."""
    good: list[Anchor] = []
    bad: list[Problem] = []
    for anchor in anchors:
        if anchor.is_genuine(key):
            good.append(anchor)
        else:
            bad.append(Problem(f"{place}: the {anchor.kind} anchor is forged", anchor.sequence))
    return good, bad


def removed(table: Collection[Anchor], file: Collection[Anchor]) -> list[Problem]:
    """Return a problem for each anchor of the file that the table lacks and pruning left."""
    start = pruned_up_to([*table, *file])
    boundary = start.sequence if start else 0
    known = {anchor.mac for anchor in table}
    return [
        Problem(f"the {anchor.kind} anchor is in the file but not in the table", anchor.sequence)
        for anchor in file
        if anchor.mac not in known
        and (anchor.sequence > boundary or (anchor.kind == PRUNED and anchor == start))
    ]


def lost_from_file(
    table: Collection[Anchor], file: Collection[Anchor], written: Collection[str]
) -> list[Anchor]:
    """Return the anchors that the file had (`written` are their MACs) and has no longer."""
    kept = {anchor.mac for anchor in file}
    lost = [anchor for anchor in table if anchor.mac in written and anchor.mac not in kept]
    return sorted(lost, key=lambda anchor: anchor.sequence)


def pruned_up_to(anchors: Iterable[Anchor]) -> Anchor | None:
    return max(
        (anchor for anchor in anchors if anchor.kind == PRUNED),
        key=lambda anchor: anchor.sequence,
        default=None,
    )


def verify(
    rows: Iterable[Sealed], anchors: Collection[Anchor], key: str, *, basis: Sealed | None = None
) -> Iterator[Problem]:
    """Walk the rows in the order of their sequences, and yield what is wrong.

    `anchors` are genuine ones. `basis` is a trusted row, after which the walk begins.
    """
    return _Walk(anchors, key, basis).problems(rows)


class _Walk:
    def __init__(self, anchors: Collection[Anchor], key: str, basis: Sealed | None) -> None:
        self._key = key
        self._anchored: defaultdict[int, set[str]] = defaultdict(set)
        for anchor in anchors:
            self._anchored[anchor.sequence].add(anchor.seal)
        self._newest = max(self._anchored, default=0)
        start = pruned_up_to(anchors)
        self._pruned = start.sequence if start else 0
        self._last = self._pruned
        # The seals that the next row may follow; empty when that cannot be known.
        self._previous: set[str] = {start.seal if start else GENESIS}
        if basis and basis.row.sequence > self._last:
            self._last = basis.row.sequence
            self._previous = {basis.seal}

    def problems(self, rows: Iterable[Sealed]) -> Iterator[Problem]:
        for sealed in rows:
            yield from self._step(sealed)
        if self._newest > self._last:
            span = _span(self._last + 1, self._newest)
            what = f"missing from the end, {span}: an anchor recorded it"
            yield Problem(what, self._last + 1)

    def _step(self, sealed: Sealed) -> Iterator[Problem]:
        row = sealed.row
        if row.sequence <= self._pruned:
            yield _of(row, "precedes the beginning of the chain, so it was inserted")
            return
        if row.sequence > self._last + 1:
            yield Problem(f"missing, {_span(self._last + 1, row.sequence - 1)}", self._last + 1)
            self._previous = self._anchors_at(row.sequence - 1)
        expected = {seal_of(row, previous, self._key) for previous in self._previous}
        anchored = self._anchors_at(row.sequence)
        if not expected:
            yield _of(row, "cannot be checked, since the row before it is gone")
        elif sealed.seal not in expected:
            yield _of(row, "changed, or not sealed by us, or after a row of which this is true")
        if anchored - {sealed.seal}:
            yield _of(row, "not the row that an anchor recorded here")
        self._last = row.sequence
        # Where only the seal was changed, the next row still follows the right one.
        self._previous = {sealed.seal, *expected, *anchored}

    def _anchors_at(self, sequence: int) -> set[str]:
        return self._anchored.get(sequence, set())


def _of(row: Row, what: str) -> Problem:
    return Problem(what, row.sequence, row.id, row.action)


def _span(first: int, last: int) -> str:
    if first == last:
        return "1 row"
    return f"{last - first + 1} rows, up to sequence {last}"


def _mac(key: str, fields: list[Any]) -> str:
    return hmac.digest(key.encode(), _encoded(fields), "sha256").hex()


def _encoded(fields: list[Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
