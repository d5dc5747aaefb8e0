"""Show the body of a message to a person, whatever bytes it has."""

BYTES_PER_LINE = 32


def readable(body: bytes) -> str:
    """Return a body of printable UTF-8 as it is, and any other as hex digits."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return _hexdump(body)
    if all(character.isprintable() or character in "\n\r\t" for character in text):
        return text
    return _hexdump(body)


def _hexdump(body: bytes) -> str:
    starts = range(0, len(body), BYTES_PER_LINE)
    return "\n".join(body[start : start + BYTES_PER_LINE].hex(" ") for start in starts)
