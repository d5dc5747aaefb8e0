import json
from datetime import UTC, timedelta
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from devices.commands.issue import issue
from devices.models import Command, CommandState, Connectivity, Device, Presence, Reporter
from tenants.models import User
from tests.support.many import online

pytestmark = pytest.mark.usefixtures("redis_server")

FRAGMENT = {"HX-Request": "true"}
OFFERED = [
    {"name": "ping", "description": "Answers.", "parameters": []},
    {
        "name": "measure",
        "description": "Measures.",
        "parameters": [
            {"name": "kind", "type": "string", "choices": ["all", "some"], "default": "all"},
            {"name": "limit", "type": "integer", "required": True, "minimum": 1, "maximum": 9},
            {"name": "parts", "type": "list", "choices": ["a", "b"], "default": ["a"]},
            {"name": "pause", "type": "number"},
            {"name": "deep", "type": "boolean"},
            {"name": "note", "type": "string"},
        ],
    },
]


@pytest.fixture
def device(device_a: Device) -> Device:
    """A device whose agent offers commands."""
    Connectivity.objects.update_or_create(
        device=device_a, defaults={"capabilities": {"commands": OFFERED}}
    )
    return device_a


def send(client: Client, device: Device, **fields: Any) -> HttpResponse:
    return client.post(f"/devices/{device.pk}/commands/", fields, headers=FRAGMENT)  # type: ignore[return-value]


def finished(device: Device, by: User, result: Any, error: str = "") -> Command:
    command = issue(device, "measure", {}, by=by)
    command.state = CommandState.FAILED if error else CommandState.SUCCEEDED
    command.result, command.error = result, error
    command.sent_at = timezone.now()
    command.finished_at = command.sent_at + timedelta(milliseconds=540)
    command.save()
    return command


def shown(client: Client, command: Command) -> str:
    path = f"/devices/{command.device_id}/commands/{command.uuid}/"
    answer = client.get(path, headers=FRAGMENT)
    assert answer.status_code == 200
    return answer.content.decode()


def test_an_operator_sends_a_command(as_alice: Client, alice: User, device: Device) -> None:
    answer = send(as_alice, device, command="ping")
    assert answer.status_code == 200
    command = Command.objects.get()
    assert (command.command, command.parameters, command.created_by) == ("ping", {}, alice)
    assert f'data-issued="{command.uuid}"' in answer.content.decode()


def test_parameters_reach_the_device_with_their_types(as_alice: Client, device: Device) -> None:
    fields = {
        "parameter-kind": "some",
        "parameter-limit": "7",
        "parameter-parts": ["a", "b"],
        "parameter-pause": "0.5",
        "parameter-deep": "on",
        "parameter-note": "",
    }
    send(as_alice, device, command="measure", **fields)
    assert Command.objects.get().parameters == {
        "kind": "some",
        "limit": 7,
        "parts": ["a", "b"],
        "pause": 0.5,
        "deep": True,
    }


@pytest.mark.parametrize("limit", ["", "many", "10", "0"])
def test_a_bad_parameter_is_named_at_its_field(
    as_alice: Client, device: Device, limit: str
) -> None:
    answer = send(as_alice, device, command="measure", **{"parameter-limit": limit})
    assert answer.status_code == 422
    assert 'id="id_command_parameter-limit_error"' in answer.content.decode()
    assert not Command.objects.exists()


def test_the_form_follows_the_command_chosen(as_alice: Client, device: Device) -> None:
    path = f"/devices/{device.pk}/form/"
    assert b"parameter-" not in as_alice.get(path).content
    body = as_alice.get(f"{path}?command=measure").content.decode()
    for name in ("kind", "limit", "parts", "pause", "deep", "note"):
        assert f'name="parameter-{name}"' in body
    assert "Measures." in body
    assert 'name="parameters"' in as_alice.get(f"{path}?command=").content.decode()


def test_an_agent_that_describes_nothing_takes_a_name_and_json(
    as_alice: Client, device_a: Device
) -> None:
    assert b'name="parameters"' in as_alice.get(f"/devices/{device_a.pk}/form/").content
    send(as_alice, device_a, command="upgrade", parameters='{"to": "2.0", "now": true}')
    command = Command.objects.get()
    assert (command.command, command.parameters) == ("upgrade", {"to": "2.0", "now": True})


def test_tools_are_offered_by_name_where_that_is_all_there_is(
    as_alice: Client, device_a: Device
) -> None:
    Connectivity.objects.update_or_create(
        device=device_a, defaults={"capabilities": {"tools": ["osquery", 7, ""]}}
    )
    body = as_alice.get(f"/devices/{device_a.pk}/form/").content.decode()
    assert '<option value="osquery" selected>' in body
    assert 'name="parameters"' in body


@pytest.mark.parametrize(
    "parameters",
    [
        "{",
        "[1]",
        '{"a": NaN}',
        '{"a": "\\u0000"}',
        pytest.param("[" * 100_000, id="deep"),
        pytest.param('{"a":' * 100_000, id="deep objects"),
        pytest.param('{"a":' * 65 + "1" + "}" * 65, id="too deep for an agent"),
        pytest.param('{"a": "%s"}' % ("x" * 600_000), id="larger than the broker carries"),
        '{"a": 1e308}',
    ],
)
def test_bad_json_is_refused_at_the_field(
    as_alice: Client, device_a: Device, parameters: str
) -> None:
    answer = send(as_alice, device_a, command="x", parameters=parameters)
    assert answer.status_code == 422
    assert 'id="id_command_parameters_error"' in answer.content.decode()
    assert not Command.objects.exists()


def test_a_viewer_sees_the_box_disabled_and_the_reason_and_is_refused(
    as_bob: Client, device: Device
) -> None:
    body = as_bob.get(f"/devices/{device.pk}/").content.decode()
    assert '<fieldset class="plain" disabled' in body
    assert "needs the role operator" in body
    assert send(as_bob, device, command="ping").status_code == 403
    assert not Command.objects.exists()


def test_nobody_commands_another_tenants_device(as_charlie: Client, device: Device) -> None:
    assert send(as_charlie, device, command="ping").status_code == 404
    assert not Command.objects.exists()


def test_a_form_without_its_token_is_refused(alice: User, device: Device) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    answer = client.post(f"/devices/{device.pk}/commands/", {"command": "ping"})
    assert answer.status_code == 403
    assert b"form has expired" in answer.content


def test_it_works_without_javascript(as_alice: Client, device: Device) -> None:
    path = f"/devices/{device.pk}/commands/"
    answer = as_alice.post(path, {"command": "ping"})
    assert answer.status_code == 302
    assert answer["Location"] == f"/devices/{device.pk}/#commands"
    answer = as_alice.post(path, {"command": "measure"})
    assert answer.status_code == 422
    assert b"<html" in answer.content
    command = Command.objects.get()
    body = as_alice.get(f"{path}{command.uuid}/").content.decode()
    assert "<html" in body
    assert "Waiting for the device to come online" in body


def test_a_result_is_laid_out_as_table_and_as_json(
    as_alice: Client, alice: User, device: Device
) -> None:
    rows = [{"name": "init", "pid": 1, "memory_percent": 0.5}, {"name": "<b>", "pid": 2}]
    body = shown(as_alice, finished(device, alice, rows))
    assert '<th scope="col" class="number">pid</th>' in body
    assert "0.5 %" in body
    assert "&lt;b&gt;" in body
    assert "<b>" not in body
    assert "540 ms after it was sent" in body
    assert "&quot;pid&quot;: 1" in body


def test_an_error_is_shown(as_alice: Client, alice: User, device: Device) -> None:
    assert "no such table" in shown(as_alice, finished(device, alice, None, "no such table"))


def test_the_history_has_pages_and_no_results_until_they_are_asked_for(
    as_alice: Client, alice: User, device: Device
) -> None:
    for number in range(22):
        finished(device, alice, {"number": f"result-{number}"})
    path = f"/devices/{device.pk}/commands/"
    first = as_alice.get(path, headers=FRAGMENT).content.decode()
    second = as_alice.get(f"{path}?page=2", headers=FRAGMENT).content.decode()
    assert (first.count("data-command="), second.count("data-command=")) == (20, 2)
    assert "result-" not in first
    assert f"/devices/{device.pk}/?page=2" in first


def test_a_waiting_command_can_be_cancelled(as_alice: Client, alice: User, device: Device) -> None:
    command = issue(device, "ping", {}, by=alice)
    path = f"/devices/{device.pk}/commands/{command.uuid}/cancel/"
    assert path in shown(as_alice, command)
    answer = as_alice.post(path, headers=FRAGMENT)
    assert answer.status_code == 200
    assert "Cancelled" in answer.content.decode()
    command.refresh_from_db()
    assert command.state == CommandState.CANCELLED
    again = as_alice.post(path, headers=FRAGMENT)
    assert again.status_code == 409
    assert "cancelled already" in again.content.decode()


@pytest.mark.parametrize("state", [CommandState.SENT, CommandState.DELIVERED])
def test_a_sent_commands_row_says_that_its_device_is_gone_and_it_can_be_given_up(
    as_alice: Client,
    as_bob: Client,
    alice: User,
    device: Device,
    listening: None,
    state: CommandState,
) -> None:
    command = issue(device, "ping", {}, by=alice)
    Command.objects.update(state=state, sent_at=timezone.now())
    online(device)
    assert "device offline since" not in shown(as_alice, command)
    left = timezone.now() - timedelta(minutes=3)
    Connectivity.objects.update(
        presence=Presence.OFFLINE, presence_at=left, presence_by=Reporter.DISCONNECT
    )
    for client in (as_alice, as_bob):
        page = shown(client, command)
        assert "device offline since" in page
        assert left.astimezone(UTC).strftime("%H:%M:%S UTC") in page
        listed = client.get(f"/devices/{device.pk}/commands/", headers=FRAGMENT).content.decode()
        assert "device offline since" in listed
        assert "device offline since" in client.get(f"/devices/{device.pk}/").content.decode()
    assert "Give up" in shown(as_alice, command)
    assert "Give up" not in shown(as_bob, command)
    path = f"/devices/{device.pk}/commands/{command.uuid}/cancel/"
    answer = as_alice.post(path, headers=FRAGMENT).content.decode()
    assert "given up by alice" in answer
    assert "device offline since" not in answer


@pytest.mark.parametrize(
    ("presence", "leaving", "waits"),
    [("online", False, False), ("online", True, True), ("offline", False, True)],
)
def test_only_what_goes_to_a_connected_device_is_said_to_be_on_its_way(
    as_alice: Client,
    device: Device,
    listening: None,
    presence: str,
    leaving: bool,
    waits: bool,
) -> None:
    online(device, capabilities={"commands": OFFERED})
    due = timezone.now() + timedelta(minutes=1) if leaving else None
    Connectivity.objects.update(presence=presence, offline_due_at=due)
    page = send(as_alice, device, command="ping").content.decode()
    assert ("waits until the device comes online" in page) is waits
    assert ("is on its way" in page) is not waits


def test_the_deadline_is_chosen_in_the_form(as_alice: Client, device: Device) -> None:
    assert send(as_alice, device, command="ping", deadline="2592000").status_code == 200
    waits = Command.objects.get().deadline - timezone.now()
    assert timedelta(days=29) < waits <= timedelta(days=30)
    assert send(as_alice, device, command="ping", deadline="2592001").status_code == 422


def test_what_the_platform_sends_says_so(as_alice: Client, device: Device) -> None:
    command = Command.objects.create(
        device=device, command="renew_credentials", by_platform=True, deadline=timezone.now()
    )
    assert "by the platform</span>" in shown(as_alice, command)


def test_what_has_ended_can_be_retried_and_names_what_it_retries(
    as_alice: Client, as_bob: Client, as_charlie: Client, alice: User, device: Device
) -> None:
    command = finished(device, alice, None, "no such table")
    path = f"/devices/{device.pk}/commands/{command.uuid}/retry/"
    assert path in shown(as_alice, command)
    assert path not in shown(as_bob, command)
    assert as_bob.post(path).status_code == 403
    assert as_charlie.post(path).status_code == 404
    answer = as_alice.post(path)
    again = Command.objects.get(retry_of=command)
    assert answer["Location"] == f"/devices/{device.pk}/commands/{again.uuid}/"
    assert "It retries" in shown(as_alice, again)
    assert as_alice.post(path.replace(str(command.uuid), str(again.uuid))).status_code == 409
    fragment = as_alice.post(path, headers=FRAGMENT)
    assert fragment.status_code == 204
    assert "issued" in fragment["HX-Trigger"]


def test_a_viewer_cannot_cancel_nor_another_tenant_look(
    as_bob: Client, as_charlie: Client, alice: User, device: Device
) -> None:
    command = issue(device, "ping", {}, by=alice)
    path = f"/devices/{device.pk}/commands/{command.uuid}/"
    assert "cancel/" not in shown(as_bob, command)
    assert as_bob.post(f"{path}cancel/", headers=FRAGMENT).status_code == 403
    assert as_charlie.post(f"{path}cancel/", headers=FRAGMENT).status_code == 404
    assert as_charlie.get(path).status_code == 404
    command.refresh_from_db()
    assert command.state == CommandState.QUEUED


def test_a_command_is_found_under_its_own_device_only(
    as_alice: Client, alice: User, device: Device
) -> None:
    other = Device.objects.create(group=device.group, name="other")
    command = issue(device, "ping", {}, by=alice)
    assert as_alice.get(f"/devices/{other.pk}/commands/{command.uuid}/").status_code == 404


def test_capabilities_of_any_shape_leave_the_page_standing(
    as_alice: Client, device: Device
) -> None:
    strange: list[Any] = [
        {
            "commands": [
                {"name": 7},
                "x",
                {"name": "ok", "parameters": [3, {"name": "p", "type": []}]},
            ]
        },
        {
            "commands": [
                {"name": "ok", "parameters": [{"name": "p", "choices": [{}], "default": {}}]}
            ]
        },
        {"commands": {"ping": 1}, "tools": "ping"},
        ["commands"],
    ]
    for capabilities in strange:
        Connectivity.objects.filter(device=device).update(capabilities=capabilities)
        answer = as_alice.get(f"/devices/{device.pk}/")
        assert answer.status_code == 200, json.dumps(capabilities)
