"""Each endpoint answers each caller as the table says."""

import pytest
from django.test import Client

from tenants.models import Group, Role
from tests.suites.permissions.endpoints import endpoints
from tests.suites.permissions.table import CALLERS, MATRIX, row
from tests.suites.permissions.world import World, build
from tests.support.people import authorization

AGENTS = ("GET /api/nats/", "GET /api/device/")


@pytest.fixture
def world(group_a: Group, group_b: Group, redis_server: object) -> World:
    return build(group_a, group_b)


def test_each_endpoint_answers_each_caller_as_the_table_says(world: World) -> None:
    wrong = []
    for endpoint in endpoints():
        answered = [world.ask(endpoint, caller) for caller in CALLERS]
        if dict(zip(CALLERS, answered, strict=True)) != MATRIX.get(endpoint):
            wrong.append(row(endpoint, answered))
    assert not wrong, "It answers:\n" + "\n".join(wrong)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_a_token_opens_no_more_than_its_role(world: World, role: Role) -> None:
    token = authorization(world.people["admin"], role)
    for endpoint, statuses in MATRIX.items():
        # A person's own tokens are theirs whatever their role.
        if "/api/tokens" not in endpoint:
            assert world.send(endpoint, token) == statuses[role], endpoint


def test_a_session_opens_resources_and_nothing_that_agents_call(world: World) -> None:
    browser = Client()
    browser.force_login(world.people["admin"])
    for endpoint, statuses in MATRIX.items():
        if endpoint.startswith("GET "):
            expected = "nobody" if endpoint.startswith(AGENTS) else "admin"
            assert world.send(endpoint, {}, browser) == statuses[expected], endpoint
