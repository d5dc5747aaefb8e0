"""Lengths of time as people write them."""

import re
from datetime import timedelta

UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
LENGTH = re.compile(r"\A([0-9]{1,9})([smhd]?)\Z")

# How long a replaced credential stays valid: by default, and at most.
USUAL_OVERLAP = timedelta(hours=24)
LONGEST_OVERLAP = timedelta(days=30)


def parse_length(text: str) -> timedelta:
    """Parse "24h", "90m", "7d", "0" or plain seconds. Raises ValueError with the reason."""
    found = LENGTH.match(text.strip().lower())
    if found is None:
        raise ValueError("Write a number of seconds, or one with a unit: 30s, 90m, 24h, 7d.")
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def parse_overlap(text: str) -> timedelta:
    """Parse a length that an overlap may have. Raises ValueError with the reason."""
    overlap = parse_length(text)
    if overlap > LONGEST_OVERLAP:
        raise ValueError(f"The overlap may be at most {LONGEST_OVERLAP.days} days.")
    return overlap
