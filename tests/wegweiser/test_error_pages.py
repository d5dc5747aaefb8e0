"""An error has one status, whether the API answers it or a page."""

import pytest
from django.db import InterfaceError, OperationalError
from django.test import Client
from rest_framework.test import APIClient

from devices.errors import CommandConflict, CommandRefused
from natsbridge.errors import DependencyAway
from tenants.models import Role, User
from tests.support.people import authorization
from wegweiser.problems import AWAY, STATUSES, status_of

SECRET = "host=db.internal"


@pytest.mark.parametrize("error", STATUSES)
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
    monkeypatch.setattr("tenants.api.audit._filter", fail)
    tenant = alice.memberships.get().tenant_id
    page = as_alice.get("/audit/")
    answer = api.get(f"/api/nats/tenant/{tenant}/audit", **authorization(alice, Role.ADMIN))
    assert page.status_code == answer.status_code == STATUSES[error]
    told = SECRET if page.status_code != 503 else AWAY
    assert told in page.content.decode()
    assert answer.json()["detail"] == told
    if page.status_code == 503:
        assert SECRET not in page.content.decode()


def test_the_nearest_class_counts_and_others_have_no_status() -> None:
    assert issubclass(CommandConflict, CommandRefused)
    assert (status_of(CommandConflict("")), status_of(CommandRefused(""))) == (409, 400)
    assert status_of(OperationalError()) == status_of(DependencyAway()) == 503
    assert status_of(InterfaceError()) is status_of(ZeroDivisionError()) is None
