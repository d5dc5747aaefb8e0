"""What the commands of this project have in common."""

from typing import Any, TextIO, cast

from django.core.management.base import BaseCommand, OutputWrapper

from natsbridge.protocol.escaping import plain


class PlainOutput(OutputWrapper):
    """Output in which a name that somebody chose moves no terminal's cursor."""

    def write(  # type: ignore[override]
        self, msg: str = "", style_func: Any = None, ending: str | None = None
    ) -> None:
        super().write(plain(msg), style_func, ending)


class PlainCommand(BaseCommand):
    """A command whose standard output and error, its CommandError among it, are plain text."""

    def __setattr__(self, name: str, value: object) -> None:
        # Django sets them here and there.
        if isinstance(value, OutputWrapper) and not isinstance(value, PlainOutput):
            value = PlainOutput(cast(TextIO, value._out))
        super().__setattr__(name, value)
