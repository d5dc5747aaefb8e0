"""Fields of representations that several resources share."""

from datetime import datetime
from typing import Any

from rest_framework import serializers


class EpochField(serializers.FloatField):
    """Show a time as epoch seconds."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)

    def to_representation(self, value: datetime) -> float:  # type: ignore[override]
        return round(value.timestamp(), 3)


class SuccessField(serializers.BooleanField):
    """Show `true`: an answer says that it is one."""

    def __init__(self) -> None:
        super().__init__(read_only=True)

    def get_attribute(self, instance: Any) -> bool:
        return True


class TextOrNullField(serializers.CharField):
    """Show a text, and null where it is empty."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, allow_null=True, **options)

    def to_representation(self, value: str) -> str | None:  # type: ignore[override]
        return value or None
