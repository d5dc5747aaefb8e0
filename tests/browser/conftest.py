"""Pages in a real Chromium, served by a web process on the test's database.

Playwright's synchronous API keeps an event loop running in the test's thread, where Django
refuses to touch the database: once a page is open, the test does that with `backend(...)`.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page

from natsbridge.models import Coverage
from natsbridge.redis import client
from tenants.models import User
from tests.support.chromium import Chromium
from tests.support.web import Web

P = ParamSpec("P")
R = TypeVar("R")

Open = Callable[..., Page]
Backend = Callable[..., Any]


@pytest.fixture
def browser(transactional_db: None, chromium: Chromium, web: Web) -> Iterator[Chromium]:
    client(settings.REDIS_URL).flushall()
    Coverage.objects.create(last_beat=timezone.now() + timedelta(hours=1))
    with chromium.in_use(web.url) as browser:
        yield browser


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
    browser: Chromium, web: Web, backend: Backend, complaints: list[str]
) -> Iterator[Open]:
    """`open_page(user, path, **options) -> Page`, logged in unless `user` is None."""

    pages: list[Page] = []

    def open_page(user: User | None, path: str, **options: Any) -> Page:
        page = browser.new_page(**options)
        pages.append(page)
        if user is not None:
            session = backend(_session_of, user)
            page.context.add_cookies([{"name": "sessionid", "value": session, "url": web.url}])
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: message.type == "error" and complaints.append(message.text),
        )
        page.goto(path)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []


def _session_of(user: User) -> str:
    client = Client()
    client.force_login(user)
    return client.cookies["sessionid"].value
