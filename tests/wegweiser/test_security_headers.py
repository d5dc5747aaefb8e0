"""What each response tells the browser, to everybody and however the request ends."""

from contextlib import closing

import pytest
from django.contrib.staticfiles import finders
from django.test import Client
from django.urls import reverse
from pytest_django.fixtures import Settings

from tenants.models import User

STRICT = "script-src 'self'; style-src 'self'; img-src 'self';"


@pytest.fixture
def browser() -> Client:
    return Client(raise_request_exception=False)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/login/", 200),
        ("/", 302),
        ("/nothing/here/", 404),
        ("/api/nats/nothing", 404),
        ("/api/schema/", 200),
        ("/static/wegweiser.css", 200),
    ],
)
def test_what_strangers_are_answered_runs_only_our_own_files(
    db: None, browser: Client, path: str, status: int
) -> None:
    with closing(browser.get(path)) as answer:
        assert answer.status_code == status
        assert_strict(answer)


def assert_strict(answer: object) -> None:
    headers = answer.headers  # type: ignore[attr-defined]
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert STRICT in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]


def test_errors_are_as_strict(
    browser: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.force_login(alice)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tenants.views.audit._filters", fail)
    answers = {
        400: browser.get("/", headers={"Host": "evil.example"}),
        403: Client(enforce_csrf_checks=True).post("/login/"),
        405: browser.post("/audit/"),
        500: browser.get("/audit/"),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert_strict(answer)


def test_only_the_admin_may_make_functions_of_text(browser: Client, db: None) -> None:
    browser.force_login(User.objects.create_superuser("sam"))
    policy = browser.get(reverse("admin:index")).headers["Content-Security-Policy"]
    assert "script-src 'self' 'unsafe-eval';" in policy
    assert "frame-ancestors 'none'" in policy
    # Still no script in the page itself, which is what markup from outside would be.
    assert "'unsafe-inline'" not in policy.partition("style-src")[0]


def test_alpine_still_needs_it(settings: Settings) -> None:
    """Where Unfold comes with Alpine's build for a strict policy, the exception can go."""
    found = finders.find("unfold/js/alpine/alpine.js")
    assert isinstance(found, str)
    with open(found) as script:  # noqa: PTH123
        assert "async function(){}).constructor" in script.read()
