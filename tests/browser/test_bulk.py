"""One command to many devices, in the browser: preview, progress, the end of it."""

from pathlib import Path

from django.utils import timezone
from playwright.sync_api import expect

from devices.commands import delivery
from devices.models import Command, CommandState
from tenants.models import Group, User
from tests.browser.conftest import Backend, Open
from tests.support.many import many_devices, some_offline

CONTRAST = (Path(__file__).parent / "contrast.js").read_text()


def a_third_offline(group: Group) -> None:
    some_offline(many_devices(group, 30), 10)


def run_what_is_online() -> None:
    while delivery.claim_due():
        pass
    Command.objects.filter(state=CommandState.SENT).update(
        state=CommandState.SUCCEEDED, finished_at=timezone.now()
    )


def test_a_command_to_many_is_previewed_sent_watched_and_cancelled(
    alice: User, group_a: Group, open_page: Open, backend: Backend
) -> None:
    backend(a_third_offline, group_a)
    page = open_page(alice, "/", viewport={"width": 390, "height": 800}, color_scheme="dark")
    page.get_by_role("link", name="Send a command to all").click()
    preview = page.locator("#preview")
    expect(preview).to_contain_text("30 devices: all devices")
    expect(preview).to_contain_text("10 get it if they come back")
    page.get_by_label("Status").select_option("Online")
    expect(preview).to_contain_text("20 devices: online devices")
    page.get_by_label("A group").focus()
    page.keyboard.press("Space")
    expect(page.get_by_label("Search")).to_be_hidden()
    expect(preview).to_contain_text("30 devices: group Laptops")
    page.get_by_label("Name").fill("ping")
    page.get_by_label("May wait for").select_option("a day")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(CONTRAST) == []
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#state-queued")).to_contain_text("30")
    backend(run_what_is_online)
    expect(page.locator("#ended")).to_have_text("20")
    expect(page.locator("#state-succeeded")).to_contain_text("20")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(CONTRAST) == []
    page.locator("#state-queued").click()
    expect(page.locator("tbody tr")).to_have_count(10)
    page.get_by_role("button", name="Cancel the 10 that are waiting").click()
    expect(page.locator("#ended")).to_have_text("30")
    expect(page.locator("#freshness")).to_have_count(0)
