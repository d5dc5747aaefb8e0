"""Each endpoint answers each caller as the table says."""

import pytest
from django.test import Client

from tenants.access import records
from tenants.audit.writer import AuditEvent
from tenants.models import Action, Group, Role
from tests.suites.permissions.endpoints import endpoints
from tests.suites.permissions.table import CALLERS, MATRIX, row
from tests.suites.permissions.world import World, build
from tests.support.people import authorization

REFUSED = Action.ACCESS_REFUSED
AGENTS = ("GET /api/nats/", "GET /api/device/")


@pytest.fixture
def world(group_a: Group, group_b: Group, redis_server: object) -> World:
    return build(group_a, group_b)


@pytest.fixture
def audited(monkeypatch: pytest.MonkeyPatch) -> list[AuditEvent]:
    """What the audit of access is told, before equal ones become one row."""
    told: list[AuditEvent] = []
    monkeypatch.setattr(records, "record_coalesced", lambda event, **_: told.append(event))
    return told


def test_each_endpoint_answers_each_caller_as_the_table_says(
    world: World, audited: list[AuditEvent]
) -> None:
    wrong, unaudited = [], []
    for endpoint in endpoints():
        answered = []
        for caller in CALLERS:
            audited.clear()
            answered.append(status := world.ask(endpoint, caller))
            refused = [event.detail["status"] for event in audited if event.action == REFUSED]
            # The outsider's 400 is for a foreign id in a field. A token of another person is named
            # by its hash, and belongs to a person alone.
            counts = status in (401, 403, 404) or (caller, status) == ("outsider", 400)
            counts = counts and not (status == 404 and "/api/tokens/" in endpoint)
            if refused != ([status] if counts else []):
                unaudited.append(f"{status} of {caller}: {endpoint}")
        if dict(zip(CALLERS, answered, strict=True)) != MATRIX.get(endpoint):
            wrong.append(row(endpoint, answered))
    assert not wrong, "It answers:\n" + "\n".join(wrong)
    assert not unaudited, "Not in the audit once:\n" + "\n".join(unaudited)


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
