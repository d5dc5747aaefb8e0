"""Names that people give to things: one line of visible text."""

import unicodedata
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

# Joiners, with which Persian words and many emoji are spelt.
_ALLOWED = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
# Control characters, direction marks and other formatting, surrogates, line breaks.
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")


def validate_name(name: str) -> None:
    for character in name:
        if unicodedata.category(character) in _INVISIBLE and character not in _ALLOWED:
            raise ValidationError(
                f"A name is one line of visible characters; remove U+{ord(character):04X}, which "
                "is invisible or changes the direction of the text.",
                code="invisible",
            )


class NameField(models.CharField):
    """A CharField whose forms accept visible characters only; in the database it is the same."""

    default_validators = [validate_name]

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.CharField", args, kwargs
