"""The audit's anchors outside the database: one line of JSON each, appended and never changed."""

import os
from pathlib import Path

from tenants.audit.rules.chain import Anchor, Problem


def append(path: Path, anchor: Anchor) -> None:
    """Returns when it is on the disk. Raises OSError."""
    line = anchor.line().encode()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        # A disk that was full may have left half a line, which must cost no second one.
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(descriptor, line) != len(line):
            raise OSError(f"{path} took only a part of the line")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def what_happened_to(path: Path) -> str:
    """Why anchors may be gone from the file. Raises OSError."""
    try:
        return "was cut or replaced" if path.stat().st_size else "was emptied"
    except FileNotFoundError:
        return "is gone"


def read(path: Path) -> tuple[list[Anchor], list[Problem]]:
    """The anchors, and a problem for each line that is none; both empty without a file. Raises
    OSError."""
    anchors: list[Anchor] = []
    problems: list[Problem] = []
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return [], []
    for number, line in enumerate(lines, start=1):
        try:
            anchors.append(Anchor.from_line(line))
        except (ValueError, RecursionError):
            problems.append(Problem(f"{path}, line {number}: not an anchor"))
    return anchors, problems
