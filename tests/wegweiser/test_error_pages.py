"""An error has one status, whether the API answers it or a page."""

import pytest
from django.db import InterfaceError, OperationalError
from django.http import Http404
from django.test import Client
from rest_framework.exceptions import MethodNotAllowed, NotFound, ParseError
from rest_framework.test import APIClient

from devices.errors import CommandConflict, CommandRefused
from tenants.models import Role, User
from tests.house.sources import ROOT
from tests.support.people import authorization
from wegweiser.problems import (
    AWAY,
    FRAMEWORK_ERRORS,
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
    assert problem_of(InterfaceError()) is problem_of(ZeroDivisionError()) is None


@pytest.mark.parametrize("error", [NotFound(), Http404(), MethodNotAllowed("GET"), ParseError()])
def test_an_error_of_a_framework_has_a_type_of_its_own(error: Exception) -> None:
    answer = problem_details(error, {})
    assert answer is not None
    problem = problem_of(error)
    assert problem is not None
    assert (answer.status_code, answer.data["type"]) == (problem.status, problem.type)


def test_the_documentation_lists_each_type_once() -> None:
    types = {(each.type, each.status) for each in PROBLEMS.values()}
    assert len({name for name, _ in types}) == len(types)
    page = (ROOT / "docs" / "problems.md").read_text()
    assert documented() in page
    assert f"`{refusals.TYPE}`" in page
