import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from wegweiser.quickstart.display import Display
from wegweiser.quickstart.state import Running

RUNNING = Running(
    url="http://127.0.0.1:8000",
    admin_username="admin",
    admin_password="password",
    api_token="token",
    tenant_uuid="tenant",
    group_uuid="group",
    enrollment_key="key",
    device_uuid="0" * 36,
    nats_url="nats://127.0.0.1:4222",
    nats_monitor_url="http://127.0.0.1:8222",
)


@pytest.fixture(params=[os.openpty, os.pipe], ids=["terminal", "pipe"])
def nobody_reads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard output goes where the other end has been closed."""
    make: Callable[[], tuple[int, int]] = request.param
    ours, theirs = make()
    stream = os.fdopen(theirs, "w")
    monkeypatch.setattr(sys, "stdout", stream)
    os.close(ours)
    yield
    monkeypatch.undo()
    with suppress(OSError):
        stream.close()


@pytest.mark.usefixtures("nobody_reads")
def test_a_lost_terminal_stops_nothing() -> None:
    display = Display()
    done = []
    display.say("before")
    with display.step("Stopping something"):
        done.append("stopped")
    display.running(RUNNING, Path("/home"))
    assert done == ["stopped"]


def test_without_a_terminal_there_are_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display()
    with display.step("Starting Postgres"):
        pass
    display.running(RUNNING, Path("/home"))
    output = capsys.readouterr().out
    assert output.startswith("Starting Postgres ...\n")
    assert "\x1b" not in output
    assert f"http://127.0.0.1:8000/devices/{RUNNING.device_uuid}/\n" in output
    assert "Password:              password\n" in output


def test_a_password_that_we_do_not_know_is_not_made_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed = Running(**{**vars(RUNNING), "admin_password": ""})
    Display().running(changed, Path("/home"))
    assert "(the one you chose)" in capsys.readouterr().out
