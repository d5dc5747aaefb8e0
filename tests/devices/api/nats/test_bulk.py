"""Commands to many devices over the API, and cancelling and retrying single ones."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from devices.api.nats.bulk import BulkAnswer, BulkIssuedAnswer, BulkPreviewAnswer, CancelledAnswer
from devices.commands import bulk, targets
from devices.commands import issue as commands
from devices.inventory.archive import archive_device
from devices.inventory.custom_fields import create_field, set_values
from devices.inventory.rules import FieldType
from devices.inventory.tags import create_tag, set_tags
from devices.models import BulkCommand, Command, CommandState, Connectivity, Device, Presence
from natsbridge.subscriber import status
from tenants.actions.people import set_membership
from tenants.actions.tenants import create_group
from tenants.models import Action, AuditEntry, Group, Role, Tenant, User
from tests.support.many import online
from tests.support.people import Enrolled, authorization, enrol, person

pytestmark = pytest.mark.usefixtures("redis_server")

ADDRESS = "/api/nats/commands"


@pytest.fixture
def listening(db: None) -> None:
    status.beat("test", started_at=timezone.now(), connected=True, details={})


@pytest.fixture
def enrolled(group_a: Group) -> Enrolled:
    return enrol(group_a, "anna-laptop")


@pytest.fixture
def device(enrolled: Enrolled) -> Device:
    return enrolled.device


def post(api: APIClient, user: User, body: Any, path: str = ADDRESS, **headers: str) -> Any:
    return api.post(path, body, "json", **authorization(user), **headers)


def to(group: Group, **fields: Any) -> dict[str, Any]:
    return {"group": str(group.pk), "command": "ping", **fields}


def failed(row: Command) -> Command:
    Command.objects.filter(pk=row.pk).update(state=CommandState.FAILED, error="no such table")
    return row


def test_a_bulk_command_is_issued_followed_cancelled_and_retried(
    api: APIClient, device: Device, group_a: Group, alice: User
) -> None:
    answer = post(api, alice, to(group_a, parameters={"n": 1}, deadline="7d"))
    assert answer.status_code == 202
    assert answer.json().keys() == BulkIssuedAnswer().fields.keys()
    status_url = answer.json()["status_url"]
    status = api.get(status_url, **authorization(alice)).json()
    assert status.keys() == BulkAnswer().fields.keys()
    assert (status["total"], status["open"], status["counts"]["queued"]) == (1, 1, 1)
    assert status["deadline"] - status["created_at"] == pytest.approx(7 * 86_400, abs=5)
    ended = post(api, alice, None, f"{status_url}/cancel").json()
    assert ended.keys() == CancelledAnswer().fields.keys()
    assert (ended["cancelled"], ended["given_up"]) == (1, 0)
    assert post(api, alice, None, f"{status_url}/retry").status_code == 409
    failed(Command.objects.get())
    again = post(api, alice, None, f"{status_url}/retry")
    assert again.status_code == 202
    row = Command.objects.first()
    assert row
    assert row.parameters == {"n": 1}
    assert row.retry_of == Command.objects.last()
    retried = api.get(again.json()["status_url"], **authorization(alice)).json()
    assert retried["retry_of"] == status["bulk_id"]


@pytest.mark.parametrize("kind", ["group", "organisation", "filter", "devices"])
def test_each_way_to_name_devices_finds_them_and_no_others(
    api: APIClient, device: Device, device_b: Device, group_a: Group, alice: User, kind: str
) -> None:
    other = create_group(group_a.organisation, name="Other")
    Device.objects.create(group=other, name="other")
    target: dict[str, Any] = {
        "group": str(group_a.pk),
        "organisation": str(group_a.organisation_id),
        "filter": {"q": "anna"},
        "devices": [str(device.pk)],
    }
    body = {kind: target[kind], "command": "ping"}
    expected = {device.name, "other"} if kind == "organisation" else {device.name}
    shown = post(api, alice, body, f"{ADDRESS}/preview").json()
    assert shown.keys() == BulkPreviewAnswer().fields.keys()
    assert shown["total"] == len(expected)
    assert not Command.objects.exists()
    assert post(api, alice, body).status_code == 202
    assert set(Command.objects.values_list("device__name", flat=True)) == expected


def test_a_filter_that_contradicts_itself_says_so(
    api: APIClient, device: Device, device_b: Device, alice: User
) -> None:
    set_membership(alice, device_b.tenant, Role.OPERATOR)
    contradiction = {"tenant": str(device_b.tenant_id), "group": str(device.group_id)}
    answer = post(api, alice, {"filter": contradiction, "command": "ping"})
    assert answer.status_code == 400
    assert "Laptops does not belong to Beta" in str(answer.json())
    assert not Command.objects.exists()


def test_devices_are_chosen_by_tags_and_custom_fields(
    api: APIClient, device: Device, group_a: Group, tenant_a: Tenant, alice: User
) -> None:
    other = Device.objects.create(group=group_a, name="other")
    create_tag(tenant_a, "Server", by=None)
    create_field(tenant_a, "Price", FieldType.NUMBER, by=None)
    for each in (device, other):
        set_tags(each, ["Server"], by=None)
    set_values(other, {"Price": 12.5}, by=None)
    body = {"filter": {"tag": ["server"], "field.Price__gte": 12}, "command": "ping"}
    shown = post(api, alice, body, f"{ADDRESS}/preview").json()
    assert (shown["target"], shown["total"]) == (
        "devices tagged server with Price__gte 12",
        1,
    )
    assert post(api, alice, body).json()["total"] == 1
    assert Command.objects.get().device == other


@pytest.mark.parametrize(
    ("wanted", "status", "named"),
    [
        ({"tags": ["server"]}, 400, "filter.tags: Unknown field."),
        ({"tag": "server"}, 400, "filter.tag"),
        ({"tag": ["server"]}, 404, 'no tag "server"'),
        ({"field.Price": "9"}, 404, 'no custom field "Price"'),
        ({"field.Price": [9]}, 400, "filter.field.Price"),
        # What leaves a filter out would command every device.
        ({"tag": []}, 400, "filter.tag"),
        ({"field.Price": ""}, 400, "filter.field.Price: This may not be blank."),
        ({"field.Price": " \t"}, 400, "filter.field.Price: This may not be blank."),
        ({"field.Price": "9" * 501}, 400, "filter.field.Price: At most 500 characters."),
        ({f"field.Price{number}": "9" for number in range(21)}, 400, "At most 20 filters"),
        # Neither of these is a text of Postgres.
        ({"field.Price\0": "9"}, 404, "no custom field"),
        ({"field.Price": "\0"}, 404, "Null characters are not allowed."),
    ],
)
def test_a_filter_that_is_wrong_or_unknown_sends_nothing(
    api: APIClient,
    device: Device,
    tenant_b: Tenant,
    alice: User,
    wanted: dict[str, Any],
    status: int,
    named: str,
) -> None:
    create_tag(tenant_b, "server", by=None)
    create_field(tenant_b, "Price", FieldType.NUMBER, by=None)
    answer = post(api, alice, {"filter": wanted, "command": "ping"})
    assert answer.status_code == status
    assert named in answer.json()["detail"]
    assert not Command.objects.exists()


def test_archived_devices_get_no_bulk_command(
    api: APIClient, device: Device, group_a: Group, alice: User
) -> None:
    archived = Device.objects.create(group=group_a, name="archived")
    archive_device(archived, by=None)
    for target, left_out in (
        ({"group": str(group_a.pk)}, {}),
        ({"filter": {"group": str(group_a.pk)}}, {}),
        ({"devices": [str(archived.pk), str(device.pk)]}, {"archived": 1}),
    ):
        body = {**target, "command": "ping"}
        shown = post(api, alice, body, f"{ADDRESS}/preview").json()
        assert (shown["total"], shown["left_out"]) == (1, left_out)


def test_the_preview_counts_who_would_not_get_it_and_why(
    api: APIClient, device: Device, group_a: Group, alice: User
) -> None:
    for number, offered in enumerate((["ping"], ["osquery"], [])):
        each = Device.objects.create(group=group_a, name=f"device-{number}")
        online(each, capabilities={"commands": [{"name": name} for name in offered]})
    tools = Device.objects.create(group=group_a, name="tools")
    online(tools, capabilities={"tools": ["psutil"]})
    Device.objects.create(group=group_a, name="revoked", revoked_at=timezone.now())
    shown = post(api, alice, to(group_a), f"{ADDRESS}/preview").json()
    assert shown["left_out"] == {"revoked": 1, "does not offer it": 2}
    assert shown["total"] == 3
    assert post(api, alice, to(group_a)).json()["total"] == 3


def test_the_same_key_brings_the_same_bulk_command_and_no_other(
    api: APIClient, device: Device, group_a: Group, alice: User
) -> None:
    first, second = (post(api, alice, to(group_a), HTTP_IDEMPOTENCY_KEY="one") for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json() == second.json()
    changed = post(api, alice, to(group_a, command="other"), HTTP_IDEMPOTENCY_KEY="one")
    assert changed.status_code == 422
    assert Command.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"group": str(uuid4())}, 404),
        ({"group": None, "devices": [str(uuid4())]}, 404),
        ({"group": None, "organisation": str(uuid4())}, 404),
        ({"group": None, "filter": {"group": str(uuid4())}}, 404),
        ({"group": None, "filter": {"q": "nothing like it"}}, 400),
        ({"group": None}, 400),
        ({"organisation": str(uuid4())}, 400),
        ({"group": "x"}, 400),
        ({"command": "a b"}, 400),
        ({"deadline": "31d"}, 400),
        ({"deadline": "0"}, 400),
        ({"deadline": "soon"}, 400),
    ],
)
def test_what_cannot_be_issued_is_refused(
    api: APIClient, device: Device, group_a: Group, alice: User, change: Any, status: int
) -> None:
    body = {name: value for name, value in (to(group_a) | change).items() if value is not None}
    for path in (ADDRESS, f"{ADDRESS}/preview"):
        answer = post(api, alice, body, path)
        assert answer.status_code == status, answer.json()
        assert answer["Content-Type"] == "application/problem+json"
    assert not BulkCommand.objects.exists()


def test_parameters_that_no_agent_could_read_are_refused_wherever_they_enter(
    api: APIClient, device: Device, group_a: Group, alice: User
) -> None:
    deep: Any = 1
    for _ in range(600):
        deep = {"a": deep}
    single = {"command": "ping", "parameters": deep}
    for path, body in (
        (f"/api/nats/device/{device.pk}/command", single),
        (ADDRESS, to(group_a, parameters=deep)),
        (f"{ADDRESS}/preview", to(group_a, parameters=deep)),
    ):
        answer = post(api, alice, body, path)
        assert answer.status_code == 400, path
        assert answer.json()["errors"] == [
            {"field": "parameters", "detail": "Nested more than 64 levels deep."}
        ]
    assert not Command.objects.exists()


def test_what_was_issued_before_there_was_a_limit_is_not_retried(
    api: APIClient, device: Device, group_a: Group, alice: User
) -> None:
    single = failed(commands.issue(device, "ping", {}, by=alice))
    row, _ = bulk.issue(targets.of_group(alice, group_a.pk), "ping", {}, by=alice)
    failed(row.commands.get())
    deep = {"a": json.loads("[" * 64 + "]" * 64)}
    Command.objects.update(parameters=deep)
    BulkCommand.objects.update(parameters=deep)
    for path in (f"/api/nats/command/{single.uuid}/retry", f"{ADDRESS}/{row.uuid}/retry"):
        answer = post(api, alice, None, path)
        assert (answer.status_code, "64 levels" in answer.json()["detail"]) == (400, True), path


def test_only_operators_of_the_tenant_reach_it(
    api: APIClient, enrolled: Enrolled, group_a: Group, alice: User, bob: User, charlie: User
) -> None:
    single = failed(commands.issue(enrolled.device, "ping", {}, by=alice))
    row, _ = bulk.issue(targets.of_group(alice, group_a.pk), "ping", {}, by=alice)
    status, command = f"{ADDRESS}/{row.uuid}", f"/api/nats/command/{single.uuid}"
    deeds = [f"{status}/cancel", f"{status}/retry", f"{command}/cancel", f"{command}/retry"]
    for path in (ADDRESS, f"{ADDRESS}/preview", *deeds):
        body = to(group_a)
        assert post(api, bob, body, path).status_code == 403, path
        assert post(api, charlie, body, path).status_code == 404, path
        weak = authorization(alice, Role.VIEWER)
        assert api.post(path, body, "json", **weak).status_code == 403, path
        assert api.post(path, body, "json", **enrolled.authorization).status_code == 403, path
        assert api.post(path, body, "json").status_code == 401, path
    assert api.get(status, **authorization(bob)).status_code == 200
    assert api.get(status, **authorization(charlie)).status_code == 404
    assert api.get(status, **enrolled.authorization).status_code == 403
    assert Command.objects.count() == 2


def test_a_single_command_is_cancelled_while_it_waits_and_retried_once_it_has_ended(
    api: APIClient, device: Device, alice: User
) -> None:
    row = commands.issue(
        device, "ping", {"n": 1}, by=alice, deadline=timezone.now() + timedelta(days=2)
    )
    path = f"/api/nats/command/{row.uuid}"
    assert post(api, alice, None, f"{path}/retry").status_code == 409
    answer = post(api, alice, None, f"{path}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert answer.json()["error"] == "cancelled by alice"
    assert post(api, alice, None, f"{path}/cancel").status_code == 409
    again = post(api, alice, None, f"{path}/retry")
    assert again.status_code == 202
    retried = api.get(again.json()["status_url"], **authorization(alice)).json()
    assert (retried["retry_of"], retried["parameters"]) == (str(row.uuid), {"n": 1})
    assert retried["deadline"] - retried["created_at"] == pytest.approx(2 * 86_400, abs=5)


def test_a_command_sent_to_a_device_that_went_away_says_so_and_is_given_up(
    api: APIClient, device: Device, group_a: Group, alice: User, listening: None
) -> None:
    single = commands.issue(device, "ping", {}, by=alice)
    row, _ = bulk.issue(targets.of_group(alice, group_a.pk), "ping", {}, by=alice)
    path, bulk_path = f"/api/nats/command/{single.uuid}", f"{ADDRESS}/{row.uuid}"

    def get(address: str) -> Any:
        return api.get(address, **authorization(alice)).json()

    online(device)
    Command.objects.update(state=CommandState.SENT, sent_at=timezone.now())
    assert get(path)["device_offline_since"] is None
    assert get(bulk_path)["to_give_up"] == 0
    left = timezone.now() - timedelta(minutes=3)
    Connectivity.objects.update(presence=Presence.OFFLINE, presence_at=left)
    assert get(path)["device_offline_since"] == pytest.approx(left.timestamp(), abs=0.01)
    assert get(bulk_path)["to_give_up"] == 1
    ended = post(api, alice, None, f"{path}/cancel")
    assert ended.status_code == 200
    answer = ended.json()
    assert (answer["state"], answer["error"]) == ("failed", "given up by alice")
    assert answer["device_offline_since"] is None
    assert post(api, alice, None, f"{path}/cancel").status_code == 409
    ended = post(api, alice, None, f"{bulk_path}/cancel").json()
    assert (ended["cancelled"], ended["given_up"]) == (0, 1)


def test_the_same_key_brings_the_same_single_command_and_no_other(
    api: APIClient, device: Device, group_a: Group, alice: User
) -> None:
    path, other = (
        f"/api/nats/device/{each.pk}/command"
        for each in (device, Device.objects.create(group=group_a, name="other"))
    )
    colleague = person("dora", group_a.tenant, Role.OPERATOR)
    body = {"command": "ping", "parameters": {"n": 1.5}}
    key = {"HTTP_IDEMPOTENCY_KEY": "one"}
    first, second = (post(api, alice, body, path, **key) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json() == second.json()
    for address, changed in (
        (path, {"command": "other"}),
        (path, {"command": "ping", "parameters": {"n": 2}}),
        (other, body),
    ):
        refused = post(api, alice, changed, address, **key)
        assert refused.status_code == 422
        assert "was used for a different request" in refused.json()["detail"]
    assert Command.objects.count() == 1
    assert AuditEntry.objects.filter(action=Action.COMMAND_ISSUED).count() == 1
    assert post(api, colleague, body, path, **key).status_code == 202, "a key is one person's"
    assert post(api, alice, body, path).status_code == 202, "without a key each is a new one"
    assert post(api, alice, body, path, HTTP_IDEMPOTENCY_KEY="x" * 101).status_code == 400


def test_a_single_command_is_retried_once_with_one_key(
    api: APIClient, device: Device, alice: User
) -> None:
    row = failed(commands.issue(device, "ping", {}, by=alice))
    key = {"HTTP_IDEMPOTENCY_KEY": "one"}
    path = f"/api/nats/command/{row.uuid}/retry"
    first, second = (post(api, alice, None, path, **key) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json() == second.json()
    issue = f"/api/nats/device/{device.pk}/command"
    assert post(api, alice, {"command": "ping"}, issue, **key).status_code == 422
    assert Command.objects.count() == 2


def test_a_revoked_device_takes_no_command(api: APIClient, device: Device, alice: User) -> None:
    Device.objects.filter(pk=device.pk).update(revoked_at=timezone.now())
    path = f"/api/nats/device/{device.pk}/command"
    answer = post(api, alice, {"command": "ping", "deadline": "2h"}, path)
    assert answer.status_code == 409
    assert "revoked" in answer.json()["detail"]


def test_a_suspended_tenant_takes_no_command(api: APIClient, device: Device, alice: User) -> None:
    row = commands.issue(device, "ping", {}, by=alice)
    Command.objects.update(state=CommandState.FAILED)
    Tenant.objects.update(suspended_at=timezone.now())
    for path, body in (
        (f"/api/nats/device/{device.pk}/command", {"command": "ping"}),
        (f"/api/nats/command/{row.uuid}/retry", None),
    ):
        answer = post(api, alice, body, path)
        assert (answer.status_code, "suspended" in answer.json()["detail"]) == (409, True)
    assert Command.objects.count() == 1
