"""Names that people give to things: one line of visible text."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from tenants.rules.visible import invisible_in


def validate_name(name: str) -> None:
    if character := invisible_in(name):
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
