"""How everything is logged: by structlog, one line an event, for a terminal or as JSON."""

import logging
from typing import Any

import structlog

from wegweiser.rendering import PlainRenderer


def _name_request(
    logger: Any, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Add the request's id to what Django logs once all middleware has ended."""
    request = getattr(event.get("_record"), "request", None)
    if request_id := getattr(request, "META", {}).get("HTTP_X_REQUEST_ID"):
        event.setdefault("request_id", request_id)
    return event


PROCESSORS: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    _name_request,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def logging_configuration(*, level: str, format: str) -> dict[str, Any]:
    """Django's LOGGING."""
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if format != "json":
        # Not rich's tracebacks: they print local variables, secrets and queries among them.
        renderer = PlainRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": PROCESSORS,
                "processor": renderer,
            }
        },
        "filters": {
            "tls_close": {"()": "django.utils.log.CallbackFilter", "callback": _is_no_tls_close},
            "clients_mistake": {"()": "django.utils.log.CallbackFilter", "callback": _in_one_line},
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "structured",
                "filters": ["clients_mistake"],
            }
        },
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "asyncio": {"filters": ["tls_close"]},
            "daphne": {"level": "WARNING"},
            "axes": {"level": "WARNING"},
        },
    }


def configure_structlog() -> None:
    structlog.configure(
        processors=[
            *PROCESSORS,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _is_no_tls_close(record: logging.LogRecord) -> bool:
    """asyncio says so of nats-py whenever a TLS connection ends; nothing is wrong then."""
    return record.getMessage() != "returning true from eof_received() has no effect when using ssl"


def _in_one_line(record: logging.LogRecord) -> bool:
    """Django logs a request that makes no sense (a foreign Host, a form of 2,000 fields) as an
    error with its traceback, and one that is not allowed with the traceback of our own refusal:
    anybody could fill the log with them."""
    if record.name.startswith("django.security."):
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    elif record.name != "django.request" or record.levelno >= logging.ERROR:
        return True
    record.exc_info = record.exc_text = None
    return True
