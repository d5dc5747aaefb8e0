"""Escape characters that would change how a terminal, a log or a browser shows the text around."""

import re

# In UTF-8: U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069.
_DIRECTION_MARKS = re.compile(rb"\xd8\x9c|\xe2\x80[\x8e\x8f\xaa-\xae]|\xe2\x81[\xa6-\xa9]")


def plain(text: str) -> str:
    """Escape control characters and marks of writing direction, but not line breaks and tabs."""
    if text.isprintable():
        return text
    return "".join(each if each in "\n\t" else one_line(each) for each in text)


def one_line(text: str) -> str:
    """Escape what `plain` escapes, and line breaks and tabs too."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def escape_marks(document: bytes) -> bytes:
    """Escape each mark of writing direction in a UTF-8 text as JSON does, such as `\\u202e`."""
    return _DIRECTION_MARKS.sub(lambda mark: mark[0].decode().encode("unicode_escape"), document)
