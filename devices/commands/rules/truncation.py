"""Pure: what devices say, of limited size. What is larger is cut where that leaves something to
read."""

import json
from typing import Any, NamedTuple


class Kept(NamedTuple):
    """`cut_from`: how many bytes it had as JSON, where it was larger than the limit."""

    value: Any
    cut_from: int | None = None


def within(value: Any, limit: int) -> Kept:
    """Whole where it fits. Of a list the first elements, of a text its beginning, of anything else
    the beginning of its JSON as text."""
    encoded = _encoded(value)
    if len(encoded) <= limit:
        return Kept(value)
    if isinstance(value, list) and (beginning := _first(value, limit)):
        return Kept(beginning, len(encoded))
    text = value if isinstance(value, str) else encoded.decode()
    return Kept(_beginning(text, limit), len(encoded))


def members_within(members: dict[str, Any], limit: int) -> dict[str, Any]:
    """Whole where they fit. Otherwise the smaller members, and `(removed)` says how many others
    there were."""
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
    """As much as fits once it is JSON again, where a line break or a quote takes two bytes."""
    low, high = 0, min(len(text), limit)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(_encoded(text[:middle])) <= limit else (low, middle - 1)
    return text[:low]


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(
        errors="surrogatepass"
    )
