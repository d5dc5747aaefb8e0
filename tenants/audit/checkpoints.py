"""The file of anchors, the signed checkpoints of the audit's hash chain, outside the database.

It has one line of JSON for each; lines are appended, and never changed.
"""

import os
from pathlib import Path

from tenants.audit.rules.chain import Anchor, Problem


def append(path: Path, anchor: Anchor) -> None:
    """Append the anchor, and return when it is on the disk. Raises OSError."""
    line = anchor.line().encode()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        # A full disk may have left half a line, which must not spoil this one.
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(descriptor, line) != len(line):
            raise OSError(f"{path}: only a part of the line was written")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def what_happened_to(path: Path) -> str:
    """Return why anchors may be missing from the file. Raises OSError."""
    try:
        return "was cut or replaced" if path.stat().st_size else "was emptied"
    except FileNotFoundError:
        return "is gone"


def read(path: Path) -> tuple[list[Anchor], list[Problem]]:
    """Return the anchors, and a problem for each line that is not one. Raises OSError.

    Without a file both are empty.
    """
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
