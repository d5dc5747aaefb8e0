"""What a newcomer does after `make run`: log in, watch this machine live, run commands on it."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.support.chromium import Chromium
from tests.support.waiting import SAFETY_NET
from tests.wegweiser.quickstart.running import PROJECT, Quickstart

pytestmark = pytest.mark.touches("postgres", "redis", "nats", "browser")


@pytest.fixture
def page(browser: Chromium, whole: Quickstart) -> Iterator[Page]:
    """Logged in with the password from quickstart.json, on the fleet page."""
    page = browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto("/")
    page.get_by_label("User name").fill(whole.running["admin_username"])
    page.get_by_label("Password").fill(whole.running["admin_password"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Fleet")).to_be_visible()
    yield page
    page.close()
    assert complaints == []


def open_device(page: Page, whole: Quickstart) -> None:
    page.locator(f"a[href='/devices/{whole.running['device_uuid']}/']").first.click()
    expect(page.locator("#device")).to_be_visible()


def test_the_cpu_chart_of_this_machine_moves(page: Page, whole: Quickstart) -> None:
    open_device(page, whole)
    chart = page.locator("[data-metric=cpu_percent]")
    points = int(chart.get_attribute("data-points") or 0)
    page.wait_for_function(
        "points => document.querySelector('[data-metric=cpu_percent]').dataset.points > points",
        arg=points,
    )
    for metric in ("memory_percent", "disk_percent", "network_bytes_in", "network_bytes_out"):
        assert int(page.locator(f"[data-metric={metric}]").get_attribute("data-points") or 0)


@pytest.mark.parametrize(("command", "shown"), [("ping", "pong"), ("system_info", "hostname")])
def test_a_command_shows_its_result(
    page: Page, whole: Quickstart, command: str, shown: str
) -> None:
    open_device(page, whole)
    page.get_by_role("combobox", name="Command").select_option(command)
    page.get_by_role("button", name="Send").click()
    newest = page.locator("#history details").first
    expect(newest).to_contain_text("Succeeded")
    if newest.get_attribute("open") is None:
        newest.locator("> summary").click()
    expect(newest).to_contain_text(shown, ignore_case=True)


def test_a_second_device_appears_on_the_open_fleet_page_without_a_reload(
    page: Page, whole: Quickstart
) -> None:
    page.evaluate("window.sameDocument = true")
    folder = whole.home.parent / "second"
    agent = subprocess.Popen(
        [sys.executable, PROJECT / "devices/agent/nats_persistent_agent.py"],
        env={
            "PATH": os.defpath,
            "WEGWEISER_SERVER": whole.running["url"],
            "WEGWEISER_GROUP": whole.running["group_uuid"],
            "WEGWEISER_ENROLLMENT_KEY": whole.running["enrollment_key"],
            "WEGWEISER_CONFIG_DIR": str(folder),
            "WEGWEISER_DEVICE_NAME": "second-device",
        },
        stderr=subprocess.DEVNULL,
    )
    try:
        row = page.get_by_role("row").filter(has_text="second-device")
        expect(row).to_contain_text("Online")
        assert page.evaluate("window.sameDocument")
    finally:
        agent.terminate()
        agent.wait(SAFETY_NET)


def test_the_readmes_commands_do_what_they_say(whole: Quickstart) -> None:
    blocks = readme_blocks()
    ran = 0
    for language, text in blocks:
        command = [sys.executable, "-c", text] if language == "python" else ["bash", "-euc", text]
        if "make " in text:
            targets = {
                line.split(":")[0] for line in (PROJECT / "Makefile").read_text().split("\n")
            }
            assert text.strip().removeprefix("make ") in targets
            continue
        done = subprocess.run(
            command,
            cwd=PROJECT,
            env={"PATH": os.environ["PATH"], "WEGWEISER_HOME": str(whole.home)},
            capture_output=True,
            text=True,
            timeout=5 * SAFETY_NET,
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
        ran += 1
    assert ran >= 3
    assert (whole.home / "demo.creds").stat().st_mode & 0o777 == 0o600


def readme_blocks() -> list[tuple[str, str]]:
    """Language and text of each block of code that a reader is meant to run."""
    parts = (PROJECT / "README.md").read_text().split("```")[1::2]
    named = [part.partition("\n") for part in parts]
    return [(language, text) for language, _, text in named if language in ("bash", "python")]
