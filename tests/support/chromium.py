"""One Chromium for all tests of a process, and contexts that one test uses after the other.

To start it takes more than most pages. A context that is new has loaded and compiled no file yet:
the first page of a device takes 2 seconds of CPU there, and 1 in a context of an earlier test.

Playwright's synchronous API runs an event loop inside the thread that calls it. Between two tests
the loop is hidden, or Django would refuse the database and no other loop could run here.
"""

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.support.waiting import SAFETY_NET

OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
VIEWPORT: Any = {"width": 1280, "height": 720}
expect.set_options(timeout=SAFETY_NET * 1000)


@dataclass
class Chromium:
    _browser: Browser
    _loop: asyncio.AbstractEventLoop
    _server: str = ""
    # Without options of their own; those that no test uses, the oldest last.
    _lasting: list[BrowserContext] = field(default_factory=list)
    _clean: list[BrowserContext] = field(default_factory=list)

    @contextmanager
    def in_use(self, server: str) -> Iterator["Chromium"]:
        """The browser, for pages of this server, while its event loop is the thread's running one.

        All contexts are closed or cleaned at the end.
        """
        asyncio._set_running_loop(self._loop)
        try:
            if server != self._server:
                self._server, self._lasting, self._clean = server, [], []
            yield self
            self._clean_up()
        finally:
            asyncio._set_running_loop(None)

    def new_page(
        self, *, viewport: Any = None, color_scheme: Any = None, **context_options: Any
    ) -> Page:
        """A page that shares cookies and storage with no other. With options that only a context
        has, it gets a new one."""
        if context_options:
            context = self._new_context(**context_options)
        elif self._clean:
            context = self._clean.pop()
        else:
            context = self._new_context()
            # One without any page begins anew, with nothing loaded.
            context.new_page()
            self._lasting.append(context)
        page = context.new_page()
        page.set_viewport_size(viewport or VIEWPORT)
        # A dot that pulses is painted again and again while a test waits.
        page.emulate_media(color_scheme=color_scheme, reduced_motion="reduce")
        return page

    def _new_context(self, **options: Any) -> BrowserContext:
        context = self._browser.new_context(base_url=self._server, locale="en-GB", **options)
        context.set_default_timeout(SAFETY_NET * 1000)
        return context

    def _clean_up(self) -> None:
        for context in self._browser.contexts:
            if context in self._lasting:
                self._empty(context)
            else:
                context.close()
        self._clean = self._lasting[::-1]

    def _empty(self, context: BrowserContext) -> None:
        own, *pages = context.pages
        for page in pages:
            page.close()
        session = context.new_cdp_session(own)
        stored = {"origin": self._server, "storageTypes": "all"}
        session.send("Storage.clearDataForOrigin", stored)
        session.detach()
        context.clear_cookies()


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
