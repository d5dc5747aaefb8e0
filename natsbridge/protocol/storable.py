"""Replace characters that Postgres cannot store.

Neither JSON nor Postgres holds half of a surrogate pair, and Postgres holds no NUL.
"""

from typing import Any


def storable(text: str) -> str:
    """Return the text with such characters replaced."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def storable_json(value: Any) -> Any:
    """Return a JSON value with such characters replaced in every text, keys included."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [storable_json(item) for item in value]
    if isinstance(value, dict):
        return {storable_json(key): storable_json(item) for key, item in value.items()}
    return value
