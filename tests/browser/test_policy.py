"""Every page, with the eyes of the browser's Content-Security-Policy."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin import site
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page

from devices.commands.issue import issue
from devices.models import Connectivity, Device
from natsbridge.models import DeadLetter
from tenants.admin.confirming import admin_name
from tenants.models import User
from tests.browser.conftest import Backend, Open

POLICY = (Path(__file__).parent / "policy.js").read_text()
# What may break the policy of an admin page: files, and attributes that htmx and Alpine run.
RUNS = re.compile(r'(?:src|href)="(/static/[^"]+)"|\s((?:x-|@|:|hx-|on)[^\s=]*="[^"]*")')


def violations(page: Page, path: str) -> list[str]:
    """What the browser refused this page, until a moment after it was loaded."""
    page.goto(path, wait_until="load")
    found: list[str] = page.evaluate("new Promise(done => setTimeout(() => done(violations), 100))")
    return found


def test_no_page_for_strangers_breaks_its_policy(
    alice: User, open_page: Open, complaints: list[str]
) -> None:
    page = open_page(None, "/login/")
    page.add_init_script(POLICY)
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


@pytest.fixture
def superuser(alice: User, device_a: Device) -> User:
    """With a row of most models."""
    Connectivity.objects.update_or_create(
        device=device_a, defaults={"capabilities": {"commands": [{"name": "ping"}]}}
    )
    issue(device_a, "ping", {}, by=alice)
    DeadLetter.objects.create(subject="a.b", received_at=timezone.now(), body=b"{}")
    return User.objects.create_superuser("sam", password="sam-password")


def test_no_kind_of_admin_page_breaks_its_policy(
    superuser: User, open_page: Open, backend: Backend, complaints: list[str]
) -> None:
    paths = backend(lambda: unlike_each_other(admin_pages(), superuser))
    assert len(paths) > 10
    walk(open_page(superuser, "/login/"), paths)
    complaints.clear()


@pytest.mark.long
def test_no_page_of_the_admin_breaks_its_policy(
    superuser: User, open_page: Open, backend: Backend, complaints: list[str]
) -> None:
    walk(open_page(superuser, "/login/"), backend(admin_pages))
    complaints.clear()


def walk(page: Page, paths: list[str]) -> None:
    page.add_init_script(POLICY)
    for path in paths:
        assert violations(page, path) == [], path
    # Alpine runs, which makes functions of attributes: it takes this one away when it begins.
    assert not page.locator("html[x-cloak]").count()


def admin_pages() -> list[str]:
    """Each list, form and row that there is."""
    pages = [reverse("admin:index"), reverse("admin:password_change")]
    rows: list[Model] = []
    for model in site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        pages += [reverse(f"{name}_changelist"), reverse(f"{name}_changelist") + "?q=nothing"]
        pages.append(reverse(f"{name}_add"))
        rows += model._default_manager.all()[:1]
    return [*pages, *(reverse(admin_name(row, "change"), args=[row.pk]) for row in rows)]


def unlike_each_other(paths: list[str], person: User) -> list[str]:
    """Those pages that together have every template, file and running attribute of all."""
    client = Client()
    client.force_login(person)
    parts = {path: parts_of(client.get(path)) for path in paths}
    seen: set[str] = set()
    chosen = []
    for path in sorted(paths, key=lambda path: -len(parts[path])):
        if not parts[path] <= seen:
            chosen.append(path)
            seen |= parts[path]
    return chosen


def parts_of(page: Any) -> set[str]:
    names = {str(template.name) for template in page.templates}
    return names | {part for found in RUNS.findall(page.content.decode()) for part in found}
