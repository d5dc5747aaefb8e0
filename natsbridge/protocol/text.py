"""Pure: text as a person can read it, and as the database can store it."""

import re
from typing import Any

HEX_COLUMNS = 32
# In UTF-8: U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069.
_MARKS = re.compile(rb"\xd8\x9c|\xe2\x80[\x8e\x8f\xaa-\xae]|\xe2\x81[\xa6-\xa9]")


def readable(body: bytes) -> str:
    """UTF-8 text as it is, anything else as hex digits in lines of 32 bytes."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return _hex_lines(body)
    if all(character.isprintable() or character in "\n\r\t" for character in text):
        return text
    return _hex_lines(body)


def plain(text: str) -> str:
    """The text with every character spelt out that a terminal would obey (control characters, marks
    of writing direction), but for line breaks and tabs."""
    if text.isprintable():
        return text
    return "".join(each if each in "\n\t" else one_line(each) for each in text)


def one_line(text: str) -> str:
    """The text as `plain` has it, with line breaks and tabs spelt out too."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def spell_out_marks(document: bytes) -> bytes:
    """UTF-8 text with each mark of writing direction as, say, `\\u202e`: what JSON means by it."""
    return _MARKS.sub(lambda mark: mark[0].decode().encode("unicode_escape"), document)


def _hex_lines(body: bytes) -> str:
    lines = (body[start : start + HEX_COLUMNS] for start in range(0, len(body), HEX_COLUMNS))
    return "\n".join(line.hex(" ") for line in lines)


def storable(text: str) -> str:
    """Neither JSON nor Postgres holds half a surrogate pair, and Postgres no NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def storable_json(value: Any) -> Any:
    """Every text in a JSON value, keys too, made storable."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [storable_json(item) for item in value]
    if isinstance(value, dict):
        return {storable_json(key): storable_json(item) for key, item in value.items()}
    return value
