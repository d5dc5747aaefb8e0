"""An error has one status, whether the API answers it or a page."""

import json

import pytest
from asgiref.sync import async_to_sync
from django.db import InterfaceError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import Http404
from django.test import AsyncClient, Client
from rest_framework.exceptions import MethodNotAllowed, NotFound, ParseError
from rest_framework.test import APIClient

from devices.errors import CommandConflict, CommandRefused
from tenants.models import Role, User
from tests.house.sources import ROOT
from tests.support.people import authorization
from wegweiser.problems import (
    AWAY,
    FRAMEWORK_ERRORS,
    INTERNAL_ERROR,
    PROBLEMS,
    documented,
    problem_details,
    problem_of,
)
from wegweiser.web import refusals

SECRET = "host=db.internal"


@pytest.mark.parametrize(
    "error", [each for each in PROBLEMS if not issubclass(each, FRAMEWORK_ERRORS)]
)
def test_a_page_and_the_api_answer_an_error_with_the_same_status(
    error: type[Exception],
    api: APIClient,
    as_alice: Client,
    alice: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise error(SECRET)

    monkeypatch.setattr("tenants.views.audit._filters", fail)
    monkeypatch.setattr("tenants.api.nats.audit._filter", fail)
    tenant = alice.memberships.get().tenant_id
    page = as_alice.get("/audit/")
    answer = api.get(f"/api/nats/tenant/{tenant}/audit", **authorization(alice, Role.ADMIN))
    assert page.status_code == answer.status_code == PROBLEMS[error].status
    told = AWAY if PROBLEMS[error].type == "unavailable" else SECRET
    assert told in page.content.decode()
    assert answer.json()["detail"] == told
    assert answer.json()["type"] == PROBLEMS[error].type
    if told == AWAY:
        assert SECRET not in page.content.decode()


def test_the_nearest_class_counts_and_others_have_no_answer() -> None:
    assert issubclass(CommandConflict, CommandRefused)
    assert problem_of(CommandConflict("")) is PROBLEMS[CommandConflict]
    assert problem_of(CommandRefused("")) is PROBLEMS[CommandRefused]
    away = problem_of(OperationalError())
    assert away is not None
    assert away.status == 503
    assert problem_of(InterfaceError()) == away
    assert problem_of(ZeroDivisionError()) is None


@pytest.mark.parametrize("error", [NotFound(), Http404(), MethodNotAllowed("GET"), ParseError()])
def test_an_error_of_a_framework_has_a_type_of_its_own(error: Exception) -> None:
    answer = problem_details(error, {})
    assert answer is not None
    problem = problem_of(error)
    assert problem is not None
    assert (answer.status_code, answer.data["type"]) == (problem.status, problem.type)


def test_the_documentation_lists_each_type_once() -> None:
    types = {(each.type, each.status) for each in [*PROBLEMS.values(), INTERNAL_ERROR]}
    assert len({name for name, _ in types}) == len(types)
    page = (ROOT / "docs" / "problems.md").read_text()
    assert documented() in page
    assert f"`{refusals.TYPE}`" in page


PATHS = ("/", "/account/", "/audit/", "/admin/", "/nothing/", "/api/nats/commands")


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
@pytest.mark.parametrize("path", PATHS)
def test_without_postgres_what_comes_before_a_view_answers_503_too(
    as_alice: Client, path: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session and its person are asked for by middleware, before any view."""
    browser, asynchronous = Client(raise_request_exception=False), AsyncClient()
    asynchronous.raise_request_exception = False
    browser.cookies = asynchronous.cookies = as_alice.cookies

    def away(*_: object) -> None:
        raise error(SECRET)

    with monkeypatch.context() as patch:
        patch.setattr(BaseDatabaseWrapper, "_cursor", away)
        answers = [browser.get(path), async_to_sync(asynchronous.get)(path)]
    for answer in answers:
        assert answer.status_code == 503
        text = answer.content.decode()
        assert AWAY in text
        assert SECRET not in text
        is_problem = answer["Content-Type"] == "application/problem+json"
        assert is_problem is path.startswith("/api/")
        assert answer["X-Request-ID"]


def test_without_postgres_what_comes_after_a_view_answers_503_too(
    as_alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise InterfaceError(SECRET)

    monkeypatch.setattr("tenants.middleware.record_session_use", away)
    as_alice.raise_request_exception = False
    answer = as_alice.get("/")
    assert answer.status_code == 503
    assert AWAY in answer.content.decode()


@pytest.mark.parametrize("path", ["/", "/api/nats/health"])
def test_what_nobody_expected_is_a_500_that_says_nothing_of_it(
    client: Client, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError(SECRET)

    monkeypatch.setattr("tenants.middleware.address_of", fail)
    client.raise_request_exception = False
    answer = client.get(path)
    assert answer.status_code == 500
    assert SECRET not in answer.content.decode()
    if path.startswith("/api/"):
        assert answer.json()["type"] == "internal-error"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/nats/commands", {"command": "ping", "\ud800": 1}),
        ("/api/nats/commands", {"command": "ping", "filter": {"field.\ud800": "9"}}),
        ("/api/commands", {"command": "\ud800", "\ud800": 1}),
    ],
)
def test_an_error_that_names_half_of_a_surrogate_pair_can_be_read(
    api: APIClient, alice: User, path: str, body: dict[str, object]
) -> None:
    sent = json.dumps(body)
    answer = api.post(path, sent, content_type="application/json", **authorization(alice))
    assert answer.status_code in (400, 404)
    assert answer.json()["detail"]
