"""What holds on every page: keyboard, phone, light and dark."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db.models import Model
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from devices.commands.issue import issue
from devices.enrolment.credentials import reinstate_device, revoke_device
from devices.models import Command, CommandState, Connectivity, Device
from natsbridge.models import DeadLetter
from tenants.admin.confirming import admin_name
from tenants.credentials.issue import issue_device_jwt, issue_tenant_credential
from tenants.models import Credential, User
from tests.browser.conftest import Backend, Open
from tests.browser.test_policy import POLICY, violations

CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
PHONE = {"width": 360, "height": 740}
LAPTOP = {"width": 1280, "height": 800}
# By how many pixels it is wider than what it stands in.
HIDDEN = """selector => {
  const table = document.querySelector(selector);
  return table.scrollWidth - table.parentElement.clientWidth;
}"""


@pytest.fixture
def device(device_a: Device, alice: User) -> Device:
    """A device with much to show."""
    device_a.name = "a-device-with-an-uncommonly-long-name." * 3
    device_a.save()
    Connectivity.objects.update_or_create(
        device=device_a,
        defaults={
            "last_seen_online": timezone.now(),
            "last_heartbeat": timezone.now(),
            "clock_offset_seconds": 900,
            "capabilities": {"commands": [{"name": "ping", "parameters": []}]},
            "connection_info": {"system_info": {"cpu_model": "x" * 120, "hostname": "h" * 60}},
        },
    )
    processes = [{"name": "process" * 5, "pid": pid, "user": "u" * 30} for pid in range(40)]
    for state in CommandState:
        command = issue(device_a, "ping", {"argument": "y" * 90}, by=alice)
        Command.objects.filter(pk=command.pk).update(
            state=state, result=processes, error="failed " + "z" * 80, sent_at=timezone.now()
        )
    tenant = device_a.tenant
    for kind in Credential.Kind:
        issue_tenant_credential(tenant, kind=kind, by=alice)
    issue_device_jwt(tenant.pk, device_a.pk, device_a.nkey_public)
    revoke_device(device_a, by=alice, reason="r" * 120)
    reinstate_device(device_a, by=alice)
    return device_a


def paths(device: Device) -> list[str]:
    own, tenant = f"/devices/{device.pk}/", f"/tenant/{device.tenant_id}/"
    asked = [
        f"{own}revoke/",
        tenant,
        *(f"{tenant}{part}/" for part in ("rotate", "issue", "migration")),
    ]
    many = ["/commands/", "/commands/new/?target=filter"]
    audit = ["/audit/", "/audit/?since=soon&device=x"]
    command = device.commands.latest("created_at")
    own_pages = [own, f"{own}credentials/", f"{own}commands/{command.uuid}/"]
    return [
        "/",
        "/?q=nothing",
        *many,
        "/devices/add/",
        *own_pages,
        *asked,
        *audit,
        *("/account/", "/account/password/", "/account/tokens/new/"),
        "/nothing/here/",
    ]


def admin_paths(device: Device) -> list[str]:
    credential = Credential.objects.filter(device_uuid=device.pk)[0]
    rows: list[Model] = [device.tenant, device, credential]
    pages = [reverse(admin_name(row, "change"), args=[row.pk]) for row in rows]
    return [*pages, reverse("admin:tenants_credential_changelist") + "?q=nothing"]


def open_results(page: Page) -> None:
    closed = page.locator(".history li > details:not([open]) > summary")
    closed.evaluate_all("all => all.slice(0, 7).forEach((summary) => summary.click())")
    if page.locator(".history li").count():
        expect(page.locator(".history .scroll").first).to_be_visible()


def test_a_person_logs_in_and_sends_a_command_with_the_keyboard_alone(
    alice: User, device: Device, open_page: Open
) -> None:
    page = open_page(None, "/")
    page.keyboard.type("alice")
    page.keyboard.press("Tab")
    page.keyboard.type("alice-password")
    page.keyboard.press("Enter")
    page.wait_for_selector("#fleet")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    tab_to(page, f"#device-{device.pk}")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/devices/{device.pk}/")
    tab_to(page, "#command-box .primary")
    page.keyboard.press("Enter")
    expect(page.locator(".history li")).to_have_count(len(CommandState) + 1)
    expect(page.get_by_role("button", name="Send")).to_be_focused()
    page.locator("[data-menu] summary").filter(has_text="alice").focus()
    page.keyboard.press("Enter")
    tab_to(page, "[data-menu] form button")
    page.keyboard.press("Enter")
    expect(page.get_by_text("You are logged out.")).to_be_visible()


def tab_to(page: Page, selector: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"{selector} is not reached with Tab")


def test_every_page_is_as_wide_as_a_phone_readable_in_light_and_dark_and_keeps_its_policy(
    alice: User, device: Device, open_page: Open, backend: Backend, complaints: list[str]
) -> None:
    page = open_page(alice, "/login/?next=/", viewport=LAPTOP)
    page.add_init_script(POLICY)
    wrong: list[tuple[str, str, object]] = []
    for path in backend(paths, device):
        broken = violations(page, path)
        if "/devices/" in path:
            open_results(page)
        wrong += [(path, "policy", each) for each in broken + page.evaluate("violations")]
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert is_dark(page) == (scheme == "dark"), path
            wrong += [(path, scheme, text) for text in page.evaluate(CONTRAST)]
        page.set_viewport_size(PHONE)
        for summary in page.locator(".audit summary").all()[:3]:
            summary.click()
        width = page.evaluate("document.documentElement.scrollWidth")
        wrong += [(path, "width", width)] * (width > PHONE["width"])
        page.set_viewport_size(LAPTOP)
    # Their looks are not ours.
    for path in ("/api/docs/", "/admin/"):
        wrong += [(path, "policy", each) for each in violations(page, path)]
    assert wrong == []
    complaints.clear()


def test_no_admin_page_of_credentials_scrolls_sideways_on_a_phone(
    device: Device, open_page: Open, backend: Backend
) -> None:
    sam = backend(User.objects.create_superuser, "sam")
    page = open_page(sam, "/login/?next=/", viewport=PHONE)
    for path in backend(admin_paths, device):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path


def test_no_column_is_cut_on_a_laptop(
    alice: User, device: Device, open_page: Open, backend: Backend
) -> None:
    disk = {"device": "/dev/nvme0n1p2", "mountpoint": "/home/somebody", "filesystem": "ext4"}
    disk |= {"total": 512 * 10**9, "used": 2 * 10**11, "free": 3 * 10**11, "percent": 40.1}
    backend(Command.objects.update, result={"disks": [disk]})
    subject = f"tenant.{device.tenant_id}.device.{device.pk}." + "t" * 80
    now = timezone.now()
    backend(DeadLetter.objects.create, subject=subject, received_at=now, body=b"", detail="d" * 90)
    sam = backend(User.objects.create_superuser, "sam")
    page = open_page(sam, "/login/?next=/", viewport=LAPTOP)
    for name in ("tenants_auditentry", "natsbridge_deadletter"):
        page.goto(reverse(f"admin:{name}_changelist"))
        assert page.evaluate(HIDDEN, "#result_list") <= 0, name
    page = open_page(alice, f"/devices/{device.pk}/", viewport=LAPTOP)
    page.locator(".history summary").first.click()
    expect(page.locator(".history .scroll").first).to_be_visible()
    assert page.evaluate(HIDDEN, ".history .scroll > table") <= 0


@pytest.mark.parametrize("width", [360, 768, 1024, 1440])
def test_nothing_of_the_audit_is_cut_at_any_width(
    alice: User, device: Device, open_page: Open, backend: Backend, width: int
) -> None:
    backend(Device.objects.update, name="the-laptop-of-anna-in-the-office")
    page = open_page(alice, "/audit/", viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = """cells => cells.filter((cell) => cell.scrollWidth > cell.clientWidth)
      .map((cell) => cell.innerText)"""
    cells = page.locator(".audit tbody :is(th, td)")
    assert cells.count() > 7
    assert cells.evaluate_all(cut) == []


def test_a_dead_letter_of_one_long_word_is_as_wide_as_the_page(
    open_page: Open, backend: Backend
) -> None:
    sam = backend(User.objects.create_superuser, "sam")
    row = backend(
        DeadLetter.objects.create,
        subject="ingest." + "s" * 200,
        received_at=timezone.now(),
        body=b"b" * 5_000,
        detail="d" * 2_000,
        headers={"Nats-Msg-Id": "h" * 500},
    )
    address = reverse("admin:natsbridge_deadletter_change", args=[row.pk])
    for size in (PHONE, {"width": 1024, "height": 800}, {"width": 1440, "height": 900}):
        page = open_page(sam, address, viewport=size)
        expect(page.locator(".preformatted").last).to_contain_text("bbb")
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_log_in_page_can_be_read(open_page: Open, scheme: str) -> None:
    page = open_page(None, "/login/?logged-out", color_scheme=scheme)
    assert page.evaluate(CONTRAST) == []
    assert is_dark(page) == (scheme == "dark")


# The admin says it by a class; what it paints with that is not ours.
IS_DARK = """() => location.pathname.startsWith("/admin/")
  ? document.documentElement.classList.contains("dark")
  : parseInt(getComputedStyle(document.body).backgroundColor.slice(4)) < 128"""


def is_dark(page: Page) -> bool:
    return bool(page.evaluate(IS_DARK))


def choose_theme(page: Page, name: str) -> None:
    page.locator("summary[aria-label=Theme]").click()
    page.get_by_role("button", name=name).click()


def test_one_choice_of_theme_holds_in_pages_admin_and_api_docs(
    open_page: Open, backend: Backend, complaints: list[str]
) -> None:
    sam = backend(User.objects.create_superuser, "sam")
    page = open_page(sam, "/", color_scheme="light")
    everywhere = ["/", "/admin/", "/api/docs/", "/nothing/"]

    def dark_at(path: str) -> bool:
        page.goto(path)
        if path == "/admin/":
            page.wait_for_function("localStorage.adminTheme && window.Alpine")
        return is_dark(page)

    assert [path for path in everywhere if dark_at(path)] == []
    choose_theme(page, "Dark")
    assert is_dark(page)
    assert [path for path in everywhere if not dark_at(path)] == []
    page.goto("/admin/")
    page.evaluate("Alpine.$data(document.documentElement).switchTheme('light')")
    page.wait_for_function("localStorage.adminTheme.includes('light')")
    assert [path for path in everywhere if dark_at(path)] == []
    page.goto("/api/docs/")
    expect(page.get_by_role("heading", name="Wegweiser")).to_be_visible()
    choose_theme(page, "As the system")
    page.emulate_media(color_scheme="dark")
    assert [path for path in everywhere if not dark_at(path)] == []
    assert all("404" in complaint for complaint in complaints)
    complaints.clear()


def test_a_theme_chosen_in_one_tab_is_shown_in_the_others(alice: User, open_page: Open) -> None:
    page = open_page(alice, "/", color_scheme="light")
    other = page.context.new_page()
    other.goto("/api/docs/")
    choose_theme(page, "Dark")
    other.wait_for_function(IS_DARK)
    expect(page.get_by_role("button", name="Dark")).to_have_count(0)
    page.locator("summary[aria-label=Theme]").click()
    expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")


def test_times_are_those_of_the_browsers_zone(
    bob: User, device: Device, open_page: Open, backend: Backend
) -> None:
    at = datetime(2026, 1, 2, 23, 30, tzinfo=UTC)
    backend(Device.objects.update, created_at=at)
    page = open_page(bob, f"/devices/{device.pk}/", timezone_id="Asia/Tokyo")
    expect(page.get_by_text("3 Jan 2026, 08:30:00")).to_be_visible()
    backend(Connectivity.objects.update, last_seen_online=timezone.now() - timedelta(minutes=7))
    page.reload()
    expect(page.locator("#status")).to_contain_text("7 min ago")
