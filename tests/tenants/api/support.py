"""What the tests of resources share: a caller of each role, and what lists answer."""

from typing import Any

from rest_framework.test import APIClient

from tenants.models import Role, User
from tests.support.people import authorization


def caller(person: User, role: Role = Role.ADMIN) -> APIClient:
    """Return a client with a new token of this role."""
    api = APIClient()
    api.credentials(**authorization(person, role))
    return api


def results(answer: Any) -> list[Any]:
    assert answer.status_code == 200, answer.content
    return list(answer.json()["results"])


def wrong_fields(answer: Any) -> set[str]:
    """Return the fields that a 400 names."""
    assert (answer.status_code, answer.json()["type"]) == (400, "invalid")
    return {error["field"] for error in answer.json()["errors"]}
