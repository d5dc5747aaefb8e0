"""Pure: a message's body as a person can read it."""

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


def _hex_lines(body: bytes) -> str:
    lines = (body[start : start + HEX_COLUMNS] for start in range(0, len(body), HEX_COLUMNS))
    return "\n".join(line.hex(" ") for line in lines)
