"""Browsers and systems, named as people know them."""

import pytest

from tenants.rules.user_agents import describe


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/140 Safari/537 Edg/140", "Edge on Windows"),
        ("Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Safari/604.1", "Safari on iPhone"),
        ("curl/8.5", "curl"),
        ("", "Unknown browser"),
        ("x" * 300, "x" * 60),
    ],
)
def test_a_browser_is_named_in_words(agent: str, words: str) -> None:
    assert describe(agent) == words
