"""One Chromium for all tests of a process: to start it takes more than most pages.

Playwright's synchronous API runs an event loop inside the thread that calls it. Between two tests
the loop is hidden, or Django would refuse the database and no other loop could run here.
"""

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.support.waiting import SAFETY_NET

OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
expect.set_options(timeout=SAFETY_NET * 1000)


@dataclass(frozen=True)
class Chromium:
    _browser: Browser
    _loop: asyncio.AbstractEventLoop

    @contextmanager
    def in_use(self) -> Iterator[Browser]:
        """The browser, for as long as its event loop is the thread's running one."""
        asyncio._set_running_loop(self._loop)
        try:
            yield self._browser
            for context in self._browser.contexts:
                context.close()
        finally:
            asyncio._set_running_loop(None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("WEGWEISER_REQUIRE_BROWSER"):
            pytest.fail("no chromium on the PATH, and WEGWEISER_REQUIRE_BROWSER is set")
        pytest.skip("no chromium on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=OPTIONS)
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield Chromium(browser, loop)
        asyncio._set_running_loop(loop)
        browser.close()
