"""What was acknowledged, as lines of a file that one process writes and another reads.

The first word of a line says what it is about; the last is the time, in epoch seconds.

    beat     DEVICE NUMBER TIME          a heartbeat has its PubAck
    report   DEVICE KIND NUMBER TIME     a report of one of a device's kinds has its PubAck
    stray    COMMAND TIME                a response to a command that never was has its PubAck
    receipt  COMMAND TIME                a receipt has its PubAck
    answer   COMMAND TIME                an answer has its PubAck
    issued   COMMAND DEVICE TIME         the API has taken a command
    ran      COMMAND DEVICE TIME         a device runs a command
    count    OFFERED ACKED REFUSED SILENT TIME   so many up to now
"""

import math
import time
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID


class Writer:
    """Lines are kept until `flush`, so that one write serves many of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []

    def write(self, *words: object) -> None:
        self._lines.append(f"{' '.join(map(str, words))} {time.time():.3f}\n")

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        with self._path.open("a") as stream:
            stream.writelines(lines)


@dataclass
class Counts:
    """Of publishes since the start, at one moment. Offered: whether sent or not."""

    offered: int = 0
    acknowledged: int = 0
    refused: int = 0
    silent: int = 0
    at: float = 0.0


@dataclass
class Acknowledged:
    """The ledger as far as it was read."""

    path: Path
    beats: dict[UUID, int] = field(default_factory=dict)
    reports: dict[tuple[UUID, str], int] = field(default_factory=dict)
    strays: set[UUID] = field(default_factory=set)
    receipts: set[UUID] = field(default_factory=set)
    answers: set[UUID] = field(default_factory=set)
    issued: dict[UUID, UUID] = field(default_factory=dict)
    runs: Counter[UUID] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    counts: list[Counts] = field(default_factory=lambda: [Counts()])
    _position: int = 0

    def read(self) -> "Acknowledged":
        """What has been written since the last time, but for a line that is not whole yet."""
        with self.path.open("rb") as stream:
            stream.seek(self._position)
            text = stream.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._position += len(whole)
        for line in whole.decode().splitlines():
            self._take(line.split())
        return self

    def _take(self, words: list[str]) -> None:
        self.totals[words[0]] += 1
        match words:
            case ["beat", device, number, _]:
                key = UUID(device)
                self.beats[key] = max(self.beats.get(key, 0), int(number))
            case ["report", device, kind, number, _]:
                place = UUID(device), kind
                self.reports[place] = max(self.reports.get(place, 0), int(number))
            case ["stray", command, _]:
                self.strays.add(UUID(command))
            case ["receipt", command, _]:
                self.receipts.add(UUID(command))
            case ["answer", command, _]:
                self.answers.add(UUID(command))
            case ["issued", command, device, _]:
                self.issued[UUID(command)] = UUID(device)
            case ["ran", command, _, _]:
                self.runs[UUID(command)] += 1
            case ["count", offered, acknowledged, refused, silent, at]:
                self.counts.append(
                    Counts(int(offered), int(acknowledged), int(refused), int(silent), float(at))
                )
            case _:
                raise ValueError(f"not a line of the ledger: {words}")

    def rate(self, start: float, end: float) -> tuple[float, float]:
        """Messages offered and acknowledged a second between two times."""
        first, last = self._counts_at(start), self._counts_at(end)
        seconds = (last.at - first.at) or math.inf
        return (
            (last.offered - first.offered) / seconds,
            (last.acknowledged - first.acknowledged) / seconds,
        )

    def _counts_at(self, moment: float) -> Counts:
        return self.counts[bisect_right(self.counts, moment, key=lambda each: each.at) - 1]
