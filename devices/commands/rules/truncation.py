"""Pure: limit the size of values from devices, and cut larger ones so that they stay readable."""

import json
from typing import Any, NamedTuple


class Kept(NamedTuple):
    """A value within the limit; `cut_from` is its size as JSON in bytes if it was larger."""

    value: Any
    cut_from: int | None = None


def within(value: Any, limit: int) -> Kept:
    """Return the value if it fits. Cut a list to its first elements, a text to its beginning, and
    anything else to the beginning of its JSON as text."""
    encoded = _encoded(value)
    if len(encoded) <= limit:
        return Kept(value)
    if isinstance(value, list) and (beginning := _first(value, limit)):
        return Kept(beginning, len(encoded))
    text = value if isinstance(value, str) else encoded.decode()
    return Kept(_beginning(text, limit), len(encoded))


def members_within(members: dict[str, Any], limit: int) -> dict[str, Any]:
    """Return the members if they fit, else the smaller ones; `(removed)` then tells how many are
    missing."""
    sizes = {name: len(_encoded({name: value})) for name, value in members.items()}
    total = sum(sizes.values())
    if total <= limit:
        return members
    smallest: set[str] = set()
    left = limit
    for name in sorted(sizes, key=sizes.__getitem__):
        left -= sizes[name]
        if left < 0:
            break
        smallest.add(name)
    kept = {name: value for name, value in members.items() if name in smallest}
    removed = f"{len(members) - len(kept)} of {len(members)} members, of {total} bytes in all"
    return kept | {"(removed)": f"{removed}; {limit} are kept"}


def _first(values: list[Any], limit: int) -> list[Any]:
    size = 2
    for number, value in enumerate(values):
        size += len(_encoded(value)) + 1
        if size > limit:
            return values[:number]
    return values


def _beginning(text: str, limit: int) -> str:
    """Return as much as fits as JSON, in which a line break or a quote takes two bytes."""
    low, high = 0, min(len(text), limit)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(_encoded(text[:middle])) <= limit else (low, middle - 1)
    return text[:low]


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(
        errors="surrogatepass"
    )
