"""Make the commands of this project print plain text."""

from typing import Any, TextIO, cast

from django.core.management.base import BaseCommand, OutputWrapper

from natsbridge.protocol.escaping import plain


class PlainOutput(OutputWrapper):
    """Output that escapes control characters: a name that contains them cannot move the cursor."""

    def write(  # type: ignore[override]
        self, msg: str = "", style_func: Any = None, ending: str | None = None
    ) -> None:
        super().write(plain(msg), style_func, ending)


class PlainCommand(BaseCommand):
    """A command whose standard output and error, errors it raises included, are plain text."""

    def __setattr__(self, name: str, value: object) -> None:
        # Django sets both in several places.
        if isinstance(value, OutputWrapper) and not isinstance(value, PlainOutput):
            value = PlainOutput(cast(TextIO, value._out))
        super().__setattr__(name, value)
