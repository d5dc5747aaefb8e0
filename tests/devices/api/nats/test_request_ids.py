"""A command has the id of the request that issued it, in its answer and on its page."""

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from devices.commands import expansion
from devices.models import BulkCommand, Command, CommandState, Device
from tenants.models import User
from tests.support.people import authorization

pytestmark = pytest.mark.usefixtures("redis_server")
BODY = {"command": "ping"}


def post(api: APIClient, user: User, path: str, body: Any, request_id: str) -> Any:
    headers = {"X-Request-ID": request_id}
    answer = api.post(path, body, "json", headers=headers, **authorization(user))
    assert answer.status_code == 202, answer.json()
    return answer.json()


def test_a_command_and_its_retry_have_each_the_id_of_their_own_request(
    api: APIClient, device_a: Device, alice: User, as_alice: Client
) -> None:
    issued = post(api, alice, f"/api/nats/device/{device_a.pk}/command", BODY, "first")
    first = api.get(issued["status_url"], **authorization(alice)).json()
    assert first["request_id"] == "first"
    Command.objects.all().move_to(CommandState.CANCELLED)
    retried = post(api, alice, f"/api/nats/command/{first['command_id']}/retry", None, "second")
    again = api.get(retried["status_url"], **authorization(alice)).json()
    assert (again["request_id"], again["retry_of"]) == ("second", first["command_id"])
    page = as_alice.get(f"/devices/{device_a.pk}/commands/{again['command_id']}/")
    assert "Request ID <code>second</code>" in page.content.decode()


def test_each_command_of_a_bulk_command_has_the_id_of_its_request(
    api: APIClient, device_a: Device, alice: User, as_alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that a subscriber issues once the web has died."""
    with monkeypatch.context() as patch:
        patch.setattr(expansion, "expand", lambda bulk: None)
        body = BODY | {"devices": [str(device_a.pk)]}
        issued = post(api, alice, "/api/nats/commands", body, "first")
    expansion.expand_unfinished()
    assert Command.objects.get().request_id == "first"
    path = f"/api/nats/commands/{issued['bulk_id']}"
    assert api.get(path, **authorization(alice)).json()["request_id"] == "first"
    page = as_alice.get(f"/commands/{issued['bulk_id']}/")
    assert "Request ID <code>first</code>" in page.content.decode()
    Command.objects.all().move_to(CommandState.EXPIRED)
    post(api, alice, f"{path}/retry", None, "second")
    again = BulkCommand.objects.get(request_id="second")
    assert again.commands.get().request_id == "second"


def test_a_command_that_no_request_has_issued_has_none(
    api: APIClient, device_a: Device, alice: User
) -> None:
    issued = post(api, alice, f"/api/nats/device/{device_a.pk}/command", BODY, "first")
    Command.objects.update(request_id="")
    shown = api.get(issued["status_url"], **authorization(alice)).json()
    assert shown["request_id"] is None
