"""The pages of a test share nothing with each other, nor with those of a test before."""

import pytest
from playwright.sync_api import Page

from tests.support.chromium import Chromium
from tests.support.web import Web

STORE = """() => { document.cookie = "seen=1"; localStorage.seen = sessionStorage.seen = "1" }"""
STORED = """() => [document.cookie.includes("seen"), localStorage.length, sessionStorage.length]"""


@pytest.mark.touches("browser")
def test_a_context_that_is_used_again_has_no_cookies_and_nothing_stored(
    transactional_db: None, chromium: Chromium, web: Web
) -> None:
    contexts = []
    for _ in range(2):
        with chromium.in_use(web.url) as browser:
            pages = [browser.new_page(), browser.new_page()]
            contexts.append([page.context for page in pages])
            for page in pages:
                page.goto("/login/")
                assert stored_by(page) == [False, 0, 0]
                page.evaluate(STORE)
                assert stored_by(page) == [True, 1, 1]
    assert contexts[0] == contexts[1]


def stored_by(page: Page) -> list[object]:
    found: list[object] = page.evaluate(STORED)
    return found
