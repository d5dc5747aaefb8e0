"""Log lines for people: nothing that a client wrote moves their terminal's cursor."""

from structlog.dev import ConsoleRenderer
from structlog.typing import EventDict, WrappedLogger

from natsbridge.protocol.escaping import one_line, plain

# Lines of a traceback stand in from the left, where each event begins: an error's own text, which
# may have several lines, cannot pass for another event.
_INDENT = "\n    "


class PlainRenderer(ConsoleRenderer):
    """Renders an event with its texts on one line, and control and bidi characters spelt out."""

    def __call__(self, logger: WrappedLogger, name: str, event_dict: EventDict) -> str:
        told = {
            one_line(key): one_line(value) if _is_name(key, value) else value
            for key, value in event_dict.items()
        }
        return plain(super().__call__(logger, name, told)).replace("\n", _INDENT)


def _is_name(key: str, value: object) -> bool:
    return isinstance(value, str) and key not in ("exception", "stack")
