"""Decide which characters a name may have: those that a person sees, on one line."""

import unicodedata

# Joiners, with which Persian words and many emoji are spelt.
_ALLOWED = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
# Control characters, direction marks and other formatting, surrogates, line breaks.
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")


def invisible_in(text: str) -> str:
    """Return the first character that is invisible, or changes the direction of the text; empty if
    there is none."""
    hidden = (
        character
        for character in text
        if unicodedata.category(character) in _INVISIBLE and character not in _ALLOWED
    )
    return next(hidden, "")
