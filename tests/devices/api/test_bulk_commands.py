"""Commands to many devices by the API of resources."""

import csv
import io
import json
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from rest_framework.test import APIClient

from devices.api import bulk_commands
from devices.commands import bulk
from devices.models import BulkCommand, Command, CommandState, Device
from tenants.models import Group, Role, User
from tests.support.people import authorization, enrol

BULK = "/api/bulk-commands/"

pytestmark = pytest.mark.django_db


@pytest.fixture
def as_alice(alice: User) -> APIClient:
    return caller(alice)


@pytest.fixture
def devices(group_a: Group) -> list[Device]:
    return [enrol(group_a, name).device for name in ("one", "two", "three")]


def caller(person: User, role: Role = Role.ADMIN) -> APIClient:
    api = APIClient()
    api.credentials(**authorization(person, role))
    return api


def to_group(group: Group, **others: Any) -> dict[str, Any]:
    return {"group": str(group.pk), "command": "ping"} | others


def lines(answer: Any) -> list[str]:
    async def collected() -> bytes:
        return b"".join([piece async for piece in answer])

    return async_to_sync(collected)().decode().splitlines()


def test_it_is_previewed_issued_followed_and_listed(
    as_alice: APIClient,
    group_a: Group,
    devices: list[Device],
    django_assert_max_num_queries: Any,
) -> None:
    preview = as_alice.post(f"{BULK}preview/", to_group(group_a), "json").json()
    assert (preview["total"], BulkCommand.objects.count()) == (3, 0)
    issued = as_alice.post(BULK, to_group(group_a), "json", HTTP_IDEMPOTENCY_KEY="k")
    assert issued.status_code == 202
    again = as_alice.post(BULK, to_group(group_a), "json", HTTP_IDEMPOTENCY_KEY="k")
    assert (again.status_code, again.json()["uuid"]) == (200, issued.json()["uuid"])

    Command.objects.filter(device=devices[0]).move_to(CommandState.CANCELLED)
    shown = as_alice.get(issued["Location"]).json()
    assert (shown["total"], shown["open"], shown["to_give_up"]) == (3, 2, 0)
    assert (shown["counts"]["queued"], shown["counts"]["cancelled"]) == (2, 1)
    assert (shown["created_by"], shown["tenant"]) == ("alice", str(group_a.tenant_id))
    for _ in range(4):
        assert as_alice.post(BULK, to_group(group_a), "json").status_code == 202
    with django_assert_max_num_queries(6):
        listed = as_alice.get(BULK).json()["results"]
    assert [row["open"] for row in listed] == [3, 3, 3, 3, 2]


def test_those_that_are_not_expanded_yet_count_as_queued(
    as_alice: APIClient,
    group_a: Group,
    devices: list[Device],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk.expansion, "expand", lambda row: None)
    issued = as_alice.post(BULK, to_group(group_a), "json").json()
    assert (issued["counts"]["queued"], issued["open"]) == (3, 3)
    assert not Command.objects.exists()


def test_it_is_cancelled_and_retried(
    as_alice: APIClient, group_a: Group, devices: list[Device]
) -> None:
    address = f"{BULK}{as_alice.post(BULK, to_group(group_a), 'json').json()['uuid']}"
    assert as_alice.post(f"{address}/retry").status_code == 409
    failing = Command.objects.filter(device=devices[0])
    failing.move_to(CommandState.SENT)
    failing.move_to(CommandState.FAILED)
    cancelled = as_alice.post(f"{address}/cancel/")
    assert cancelled.json() == {"cancelled": 2, "given_up": 0}
    retried = as_alice.post(f"{address}/retry/")
    assert retried.status_code == 202
    assert (retried.json()["total"], retried.json()["retry_of"]) == (1, address[-36:])


def test_its_results_are_a_file(
    as_alice: APIClient, group_a: Group, devices: list[Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    # More than one piece, since the results of a thousand devices may be 256 MB.
    monkeypatch.setattr(bulk_commands, "RESULTS_AT_A_TIME", 2)
    address = f"{BULK}{as_alice.post(BULK, to_group(group_a), 'json').json()['uuid']}/results/"
    Command.objects.filter(device=devices[0]).update(result={"of": "=one"}, error="=cmd()")
    rows = list(csv.DictReader(io.StringIO("\n".join(lines(as_alice.get(address))))))
    by_name = {row["device_name"]: row for row in rows}
    assert set(by_name) == {"one", "two", "three"}
    assert (by_name["one"]["result"], by_name["one"]["error"]) == ('{"of": "=one"}', "'=cmd()")
    as_lines = list(map(json.loads, lines(as_alice.get(address, {"format": "jsonl"}))))
    found = {line["device"]: line["result"] for line in as_lines}
    assert found[str(devices[0].pk)] == {"of": "=one"}
    assert set(found) == {str(each.pk) for each in devices}
    assert as_alice.get(address, {"format": "exe"}).status_code == 400
    assert as_alice.get(address, {"colour": "red"}).status_code == 400


def test_an_outsider_learns_and_does_nothing(
    as_alice: APIClient, group_a: Group, devices: list[Device], bob: User, charlie: User
) -> None:
    address = f"{BULK}{as_alice.post(BULK, to_group(group_a), 'json').json()['uuid']}"
    outsider, viewer = caller(charlie), caller(bob)
    assert outsider.get(BULK).json()["results"] == []
    assert outsider.post(BULK, to_group(group_a), "json").status_code == 404
    for suffix in ("cancel", "retry"):
        assert outsider.post(f"{address}/{suffix}").status_code == 404
        assert viewer.post(f"{address}/{suffix}").status_code == 403
    for suffix in ("", "/results"):
        assert outsider.get(address + suffix).status_code == 404
        assert viewer.get(address + suffix).status_code == 200
    assert viewer.post(BULK, to_group(group_a), "json").status_code == 403
    assert BulkCommand.objects.count() == 1


@pytest.mark.parametrize("body", [{}, {"devices": []}, {"filter": {"colour": "red"}}])
def test_a_target_that_chooses_nothing_is_refused(
    as_alice: APIClient, devices: list[Device], body: dict[str, Any]
) -> None:
    answer = as_alice.post(BULK, {"command": "ping"} | body, "json")
    assert answer.status_code == 400
    assert not BulkCommand.objects.exists()
