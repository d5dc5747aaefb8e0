"""Pure: text as a person can read it, and as the database can store it."""

from typing import Any

HEX_COLUMNS = 32


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
