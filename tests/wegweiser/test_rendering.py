"""What a client, a device or a person can put into a line that somebody reads in a terminal."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from django.conf import settings
from django.core.management import call_command

from natsbridge.management.base import PlainCommand
from natsbridge.protocol.escaping import one_line, plain
from tenants.actions.suspension import suspend_tenant
from tenants.actions.tenants import create_tenant
from tenants.models import Tenant

# Clears the screen, moves up, turns the direction of writing, sets the title; C1's own CSI, a
# carriage return, a backspace, and a line of its own.
EVIL = "a\x1b[2J\x1b[A\u202egnp\u2066.\x1b]0;t\x07\x9b2J\rb\b\x7f\x00\n2026 [info] all is well"
PLAIN = r"a\x1b[2J\x1b[A\u202egnp\u2066.\x1b]0;t\x07\x9b2J\rb\x08\x7f\x00\n2026 [info] all is well"


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger as daphne and nats-py have theirs, with the handler's formatter of the settings."""
    options = dict(settings.LOGGING["formatters"]["structured"])
    handler = logging.StreamHandler(lines := io.StringIO())
    handler.setFormatter(options.pop("()")(**options))
    logger = logging.getLogger("some.library")
    logger.addHandler(handler)
    logger.propagate = False
    yield logger, lines
    logger.removeHandler(handler)
    logger.propagate = True


def is_plain(text: str) -> bool:
    return all(line.isprintable() for line in text.splitlines())


def test_a_librarys_log_line_is_one_line_of_plain_text(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, lines = log
    logger.warning("refused %s", EVIL)
    assert PLAIN in lines.getvalue()
    assert is_plain(lines.getvalue())
    assert lines.getvalue().count("\n") == 1


def test_an_events_fields_are_plain_text_whatever_their_type(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    _, lines = log
    structlog.get_logger("some.library").warning(
        EVIL, name=EVIL, names=[EVIL], error=ValueError(EVIL), **{EVIL: 1}
    )
    assert lines.getvalue().count(PLAIN) >= 2
    assert is_plain(lines.getvalue())
    assert lines.getvalue().count("\n") == 1


def test_no_errors_text_passes_for_an_event_of_its_own(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, lines = log
    for say in (logger.exception, structlog.get_logger("some.library").exception):
        try:
            raise ValueError(EVIL)
        except ValueError:
            say("failed")
    written = lines.getvalue()
    assert is_plain(written)
    assert "Traceback" in written
    begun = [line for line in written.splitlines() if not line.startswith(" ") and line]
    assert len(begun) == 2
    assert "\n2026 [info]" not in written


def test_json_lines_are_plain_text_too() -> None:
    rendered = structlog.processors.JSONRenderer()(None, "", {"event": EVIL, "name": EVIL})
    assert is_plain(str(rendered))
    assert json.loads(rendered)["name"] == EVIL


def test_what_a_person_can_read_stays_as_it_is() -> None:
    for text in ("Zoë's laptop, 東京", "C:\\Users\\x", "", "emoji 🙂"):
        assert plain(text) == one_line(text) == text
    assert plain("a\tb\nc") == "a\tb\nc"


@pytest.mark.django_db
def test_a_command_prints_names_as_plain_text() -> None:
    tenant = create_tenant(name="Acme")
    evil = EVIL.replace("\x00", "").replace("\n", "")
    Tenant.objects.filter(pk=tenant.pk).update(name=evil)
    tenant.refresh_from_db()
    suspend_tenant(tenant, by=None, reason="")
    out, err = io.StringIO(), io.StringIO()
    call_command("provision_tenant_creds", str(tenant.pk), "--list", stdout=out, stderr=err)
    call_command("resume_tenant", str(tenant.pk), stdout=out, stderr=err)
    for said in (out.getvalue(), err.getvalue()):
        assert r"\x1b[2J" in said
        assert is_plain(said)


def test_a_commands_error_is_plain_text() -> None:
    said = io.StringIO()
    # As Django prints a CommandError.
    PlainCommand(stderr=said).stderr.write(f"CommandError: {EVIL}")
    assert r"\x1b[2J" in said.getvalue()
    assert is_plain(said.getvalue())
