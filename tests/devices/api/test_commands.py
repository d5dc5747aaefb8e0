"""Commands by the API of resources: issue, list, show, cancel, retry."""

from typing import Any
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from devices.commands import issue as commands
from devices.models import Command, CommandState, Device
from tenants.models import Role, User
from tests.support.people import authorization

COMMANDS = "/api/commands/"

pytestmark = pytest.mark.django_db


@pytest.fixture
def as_alice(alice: User) -> APIClient:
    return caller(alice)


def caller(person: User, role: Role = Role.ADMIN) -> APIClient:
    api = APIClient()
    api.credentials(**authorization(person, role))
    return api


def body(device: Device, **others: Any) -> dict[str, Any]:
    return {"device": str(device.pk), "command": "ping"} | others


def test_a_command_is_issued_and_shown(as_alice: APIClient, device_a: Device) -> None:
    issued = as_alice.post(COMMANDS, body(device_a, parameters={"n": 1}, deadline="2h"), "json")
    assert issued.status_code == 202
    shown = as_alice.get(issued["Location"])
    assert shown.json() == issued.json()
    row = Command.objects.get()
    assert (
        shown.json()
        | {
            "uuid": str(row.uuid),
            "device": str(device_a.pk),
            "device_name": device_a.name,
            "tenant": str(device_a.tenant_id),
            "parameters": {"n": 1},
            "state": "queued",
            "created_by": "alice",
            "result": None,
            "bulk": None,
        }
        == shown.json()
    )
    assert (row.deadline - row.created_at).total_seconds() == pytest.approx(7200, abs=60)
    assert shown.json()["deadline"].endswith("Z")


def test_lists_are_filtered_and_have_no_results(
    as_alice: APIClient, alice: User, device_a: Device, django_assert_max_num_queries: Any
) -> None:
    rows = [commands.issue(device_a, name, {}, by=alice) for name in ("ping", "ls", "ping")]
    Command.objects.filter(pk=rows[0].pk).update(result={"much": "x" * 1000})
    commands.cancel(rows[1], by=alice)
    with django_assert_max_num_queries(6):
        listed = as_alice.get(COMMANDS).json()["results"]
    assert [row["uuid"] for row in listed] == [str(row.uuid) for row in reversed(rows)]
    assert all("result" not in row for row in listed)
    for query, count in (
        ({"state": "cancelled"}, 1),
        ({"command": "ping"}, 2),
        ({"device": str(device_a.pk)}, 3),
        ({"tenant": str(device_a.tenant_id), "since": "2020-01-01T00:00:00Z"}, 3),
        ({"until": "2020-01-01T00:00:00Z"}, 0),
    ):
        assert len(as_alice.get(COMMANDS, query).json()["results"]) == count
    for query in ({"device": str(uuid4())}, {"state": "lost"}, {"bulk": str(uuid4())}):
        assert as_alice.get(COMMANDS, query).status_code == 400


def test_a_key_issues_one_command(as_alice: APIClient, device_a: Device) -> None:
    first, again = (
        as_alice.post(COMMANDS, body(device_a), "json", HTTP_IDEMPOTENCY_KEY="k") for _ in "12"
    )
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["uuid"] == again.json()["uuid"]
    other = as_alice.post(COMMANDS, body(device_a, command="ls"), "json", HTTP_IDEMPOTENCY_KEY="k")
    assert other.status_code == 422
    assert Command.objects.count() == 1


def test_a_command_is_cancelled_and_retried(
    as_alice: APIClient, alice: User, device_a: Device
) -> None:
    row = commands.issue(device_a, "ping", {}, by=alice)
    early = as_alice.post(f"{COMMANDS}{row.uuid}/retry/")
    assert early.status_code == 409
    cancelled = as_alice.post(f"{COMMANDS}{row.uuid}/cancel/")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, CommandState.CANCELLED)
    assert as_alice.post(f"{COMMANDS}{row.uuid}/cancel").status_code == 409
    retried = as_alice.post(f"{COMMANDS}{row.uuid}/retry")
    assert (retried.status_code, retried.json()["retry_of"]) == (202, str(row.uuid))


def test_only_operators_of_the_tenant_command(
    device_a: Device, alice: User, bob: User, charlie: User
) -> None:
    row = commands.issue(device_a, "ping", {}, by=alice)
    for weak in (caller(bob), caller(alice, Role.VIEWER)):
        assert weak.post(COMMANDS, body(device_a), "json").status_code == 403
        assert weak.post(f"{COMMANDS}{row.uuid}/cancel").status_code == 403
        assert weak.post(f"{COMMANDS}{row.uuid}/retry").status_code == 403
        assert weak.get(f"{COMMANDS}{row.uuid}").status_code == 200
    outsider = caller(charlie)
    foreign = outsider.post(COMMANDS, body(device_a), "json")
    assert (foreign.status_code, foreign.json()["errors"][0]["field"]) == (400, "device")
    for address in (f"{COMMANDS}{row.uuid}/cancel", f"{COMMANDS}{row.uuid}/retry"):
        assert outsider.post(address).status_code == 404
    assert outsider.get(f"{COMMANDS}{row.uuid}").status_code == 404
    assert outsider.get(COMMANDS).json()["results"] == []
    assert Command.objects.count() == 1


@pytest.mark.parametrize(
    ("others", "field"),
    [
        ({"command": "a b"}, "command"),
        ({"command": None}, "command"),
        ({"parameters": [1]}, "parameters"),
        ({"deadline": "soon"}, "deadline"),
        ({"deadline": "31d"}, ""),
        ({"state": "succeeded"}, "state"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_bodies_are_refused_by_field(
    as_alice: APIClient, device_a: Device, others: dict[str, Any], field: str
) -> None:
    answer = as_alice.post(COMMANDS, body(device_a, **others), "json")
    assert answer.status_code == 400, answer.content
    assert not field or field in [each["field"] for each in answer.json()["errors"]]
    assert not Command.objects.exists()
