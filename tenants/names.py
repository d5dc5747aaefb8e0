"""What things may be called: text that reads as it is written."""

import unicodedata
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

# Joiners: Persian words and many emoji are spelt with them.
_ALLOWED = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
# Control characters, marks of direction and other formatting, halves of characters, line breaks.
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
    """A CharField whose forms take visible characters only; the same column to the database."""

    default_validators = [validate_name]

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.CharField", args, kwargs
