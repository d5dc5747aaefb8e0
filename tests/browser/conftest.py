"""Pages in a real Chromium, served by a web process on the test's database.

Playwright's synchronous API keeps an event loop running in the test's thread, where Django
refuses to touch the database: once a page is open, the test does that with `backend(...)`.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from devices.redis import client
from natsbridge.models import Coverage
from tenants.models import User
from tests.support.waiting import SAFETY_NET
from tests.support.web import Web

P = ParamSpec("P")
R = TypeVar("R")

Open = Callable[..., Page]
Backend = Callable[..., Any]

# Also where `tests/suites/whole` asks.
expect.set_options(timeout=SAFETY_NET * 1000)

CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("WEGWEISER_REQUIRE_BROWSER"):
            pytest.fail("no chromium on the PATH, and WEGWEISER_REQUIRE_BROWSER is set")
        pytest.skip("no chromium on the PATH")
    return found


@pytest.fixture
def browser(chromium: str, transactional_db: None, web: Web) -> Iterator[Browser]:
    """Ended before the next test, so that no event loop is left in this thread."""
    client(settings.REDIS_URL).flushall()
    Coverage.objects.create(last_beat=timezone.now() + timedelta(hours=1))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture
def backend() -> Iterator[Backend]:
    """`backend(function, *arguments)` runs it in a thread of its own, with its own connection."""
    with ThreadPoolExecutor(max_workers=1) as thread:

        def run(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
            return thread.submit(function, *args, **kwargs).result()

        yield run
        # Asked for in that thread, since each has a connection of its own.
        run(lambda: connection.close())


@pytest.fixture
def complaints() -> list[str]:
    """What the browser's console complained about; a test that expects any clears it."""
    return []


@pytest.fixture
def open_page(
    browser: Browser, web: Web, backend: Backend, complaints: list[str]
) -> Iterator[Open]:
    """`open_page(user, path, **context_options) -> Page`, logged in unless `user` is None."""
    contexts: list[BrowserContext] = []

    def open_page(user: User | None, path: str, **options: Any) -> Page:
        context = browser.new_context(base_url=web.url, locale="en-GB", **options)
        contexts.append(context)
        context.set_default_timeout(SAFETY_NET * 1000)
        if user is not None:
            session = backend(_session_of, user)
            context.add_cookies([{"name": "sessionid", "value": session, "url": web.url}])
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: message.type == "error" and complaints.append(message.text),
        )
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _session_of(user: User) -> str:
    client = Client()
    client.force_login(user)
    return client.cookies["sessionid"].value
