"""Every page, with the eyes of the browser's Content-Security-Policy."""

from django.contrib.admin import site
from django.db.models import Model
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page

from devices.commands.issue import issue
from devices.models import Connectivity, Device
from natsbridge.models import DeadLetter
from tenants.admin.asking import admin_name
from tenants.models import User
from tests.browser.conftest import Backend, Open

WATCH = """
  window.violations = [];
  document.addEventListener("securitypolicyviolation", (event) => window.violations.push(
    `${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`
  ));
"""


def violations(page: Page, path: str) -> list[str]:
    """What the browser refused to load or run for this page's own scripts, styles and markup."""
    page.goto(path, wait_until="load")
    found: list[str] = page.evaluate("new Promise(done => setTimeout(() => done(violations), 100))")
    return found


def device_with_much_to_show(device: Device, by: User) -> tuple[str, str]:
    Connectivity.objects.update_or_create(
        device=device,
        defaults={
            "last_seen_online": timezone.now(),
            "capabilities": {"commands": [{"name": "ping", "parameters": []}]},
            "connection_info": {"system_info": {"hostname": "h", "platform": "Linux"}},
        },
    )
    command = issue(device, "ping", {}, by=by)
    return f"/devices/{device.pk}/", f"/devices/{device.pk}/commands/{command.uuid}/"


def test_no_page_breaks_its_policy(
    alice: User, device_a: Device, open_page: Open, backend: Backend, complaints: list[str]
) -> None:
    device, command = backend(device_with_much_to_show, device_a, alice)
    tenant = f"/tenant/{device_a.tenant_id}/"
    page = open_page(alice, "/login/")
    page.add_init_script(WATCH)
    for path in (
        *("/", "/audit/", "/commands/", "/commands/new/?target=filter", "/devices/add/"),
        *(device, command, f"{device}credentials/", f"{device}revoke/"),
        *(tenant, f"{tenant}issue/", f"{tenant}rotate/"),
        *("/api/docs/", "/nothing/here/", "/admin/"),
    ):
        assert violations(page, path) == [], path
    complaints.clear()


def test_no_page_for_strangers_breaks_its_policy(
    alice: User, open_page: Open, complaints: list[str]
) -> None:
    page = open_page(None, "/login/")
    page.add_init_script(WATCH)
    assert violations(page, "/login/?logged-out") == []
    # Locked out, and a form that has expired.
    for _ in range(20):
        if page.locator("#id_username").count() == 0:
            break
        page.fill("#id_username", "alice")
        page.fill("#id_password", "wrong")
        page.click("button[type=submit]")
    assert "Too many" in page.content()
    assert page.evaluate("violations") == []
    page.goto("/login/")
    page.context.clear_cookies()
    page.fill("#id_username", "alice")
    page.fill("#id_password", "wrong")
    page.click("button[type=submit]")
    assert "expired" in page.content()
    assert page.evaluate("violations") == []
    complaints.clear()


def test_no_page_of_the_admin_breaks_its_policy(
    alice: User, device_a: Device, open_page: Open, backend: Backend, complaints: list[str]
) -> None:
    backend(device_with_much_to_show, device_a, alice)
    backend(
        lambda: DeadLetter.objects.create(subject="a.b", received_at=timezone.now(), body=b"{}")
    )
    sam = backend(User.objects.create_superuser, "sam", password="sam-password")
    page = open_page(sam, "/login/")
    page.add_init_script(WATCH)
    for path in backend(admin_pages, sam):
        assert violations(page, path) == [], path
    # Alpine runs, which makes functions of attributes: it takes this one away when it begins.
    assert not page.locator("html[x-cloak]").count()
    complaints.clear()


def admin_pages(person: User) -> list[str]:
    """Each list, form and row that there is."""
    pages = [reverse("admin:index"), reverse("admin:password_change")]
    rows: list[Model] = []
    for model in site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        pages += [reverse(f"{name}_changelist"), reverse(f"{name}_changelist") + "?q=nothing"]
        pages.append(reverse(f"{name}_add"))
        rows += model._default_manager.all()[:1]
    return [*pages, *(reverse(admin_name(row, "change"), args=[row.pk]) for row in rows)]
