"""A client that polls is answered 304 while nothing has changed for it, and never in vain."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from devices.commands import issue as commands
from devices.models import Command, CommandState, Connectivity, Device
from tenants.broker.accounts import ensure_platform_keys
from tenants.models import Group, Role, User
from tests.support.people import Enrolled, authorization, enrol

pytestmark = pytest.mark.usefixtures("redis_server", "listening")


class Client:
    """Polls as one caller, and remembers the newest tag of each address."""

    def __init__(self, who: dict[str, str]) -> None:
        self.who, self.tags = who, dict[str, str]()

    def get(self, path: str, tag: str | None = None) -> Any:
        known = tag or self.tags.get(path)
        headers = {"If-None-Match": known} if known else {}
        answer = APIClient().get(path, headers=headers, **self.who)
        if answer.status_code in (200, 304):
            self.tags[path] = answer["ETag"]
        if answer.status_code == 304:
            assert answer.content == b""
        return answer

    def status(self, path: str) -> int:
        return int(self.get(path).status_code)


@pytest.fixture
def alices(alice: User) -> Client:
    return Client(authorization(alice))


@pytest.fixture
def command(device_a: Device, alice: User) -> Command:
    return commands.issue(device_a, "ping", {"n": 1}, by=alice)


def test_a_device_is_answered_again_only_once_it_has_changed(
    device_a: Device, alices: Client
) -> None:
    path = f"/api/nats/device/{device_a.pk}/status"
    assert [alices.status(path) for _ in range(3)] == [200, 304, 304]
    Connectivity.objects.update(agent_version="2.0")
    assert [alices.status(path) for _ in range(2)] == [200, 304]


@pytest.mark.parametrize("path", ["/api/nats/command/{}", "/api/commands/{}", "/api/commands/{}/"])
def test_a_command_is_answered_again_with_each_state_and_each_result(
    command: Command, alices: Client, path: str
) -> None:
    path = path.format(command.uuid)
    assert [alices.status(path) for _ in range(2)] == [200, 304]
    row = Command.objects.filter(pk=command.pk)
    row.move_to(CommandState.SENT, sent_at=timezone.now())
    assert [alices.status(path) for _ in range(2)] == [200, 304]
    row.move_to(CommandState.FAILED, finished_at=timezone.now(), unanswered=True)
    assert [alices.status(path) for _ in range(2)] == [200, 304]
    late = {"result": {"a": 1}, "finished_at": timezone.now()}
    Command.objects.filter(pk=command.pk).update(**late)
    answer = alices.get(path)
    assert (answer.status_code, answer.json()["result"]) == (200, {"a": 1})
    assert alices.status(path) == 304


def test_a_device_that_goes_offline_changes_its_open_command(
    command: Command, alices: Client
) -> None:
    path = f"/api/nats/command/{command.uuid}"
    Connectivity.objects.update(presence="online", last_seen_online=timezone.now())
    assert [alices.status(path) for _ in range(2)] == [200, 304]
    Connectivity.objects.update(presence="offline", presence_at=timezone.now())
    answer = alices.get(path)
    assert answer.status_code == 200
    assert answer.json()["device_offline_since"] is not None


def test_a_result_that_the_client_has_is_not_even_loaded(command: Command, alices: Client) -> None:
    row = Command.objects.filter(pk=command.pk)
    row.move_to(CommandState.FAILED, finished_at=timezone.now(), result=["x" * 1000] * 250)
    for path in (f"/api/nats/command/{command.uuid}", f"/api/commands/{command.uuid}"):
        with CaptureQueriesContext(
            connection,
        ) as whole:
            assert alices.status(path) == 200
        with CaptureQueriesContext(connection) as unchanged:
            assert alices.status(path) == 304
        assert any('"devices_command"."result"' in each["sql"] for each in whole)
        assert not any('"devices_command"."result"' in each["sql"] for each in unchanged)
        assert len(unchanged) <= len(whole)


@pytest.mark.parametrize("path", ["/api/commands", "/api/groups", "/api/nats/commands/{bulk}"])
def test_lists_and_the_progress_of_a_bulk_command_have_tags(
    command: Command, group_a: Group, alice: User, alices: Client, path: str
) -> None:
    body = {"command": "ping", "group": str(group_a.pk)}
    issued = APIClient().post("/api/nats/commands", body, format="json", **authorization(alice))
    path = path.format(bulk=issued.json()["bulk_id"])
    assert [alices.status(path) for _ in range(2)] == [200, 304]
    Command.objects.all().move_to(CommandState.EXPIRED)
    group_a.name = "Renamed"
    group_a.save()
    assert [alices.status(path) for _ in range(2)] == [200, 304]


def test_the_tag_of_one_caller_is_worth_nothing_where_another_would_be_refused(
    command: Command, device_a: Device, alices: Client, charlie: User, alice: User
) -> None:
    stranger = Client({})
    for path in (f"/api/nats/command/{command.uuid}", f"/api/nats/device/{device_a.pk}/status"):
        tag = alices.get(path)["ETag"]
        assert Client(authorization(charlie)).get(path, tag).status_code == 404
        assert stranger.get(path, tag).status_code == 401
        assert Client(authorization(charlie)).get(path, "*").status_code == 404
        # With another role's token the content is the same, so the tag may be.
        assert Client(authorization(alice, Role.VIEWER)).get(path, tag).status_code == 304
    mine = alices.get("/api/groups")["ETag"]
    assert Client(authorization(charlie)).get("/api/groups", mine).status_code == 200


def test_a_tagged_answer_is_asked_for_again_and_shared_with_nobody(
    device_a: Device, alices: Client
) -> None:
    path = f"/api/nats/device/{device_a.pk}/status"
    for answer in (alices.get(path), alices.get(path)):
        assert answer["ETag"].startswith('W/"')
        assert set(answer["Cache-Control"].split(", ")) == {"private", "no-cache"}
        assert {"Authorization", "Cookie"} <= set(answer["Vary"].split(", "))
        assert answer["X-Request-ID"]


def test_what_nobody_may_store_has_no_tag(group_a: Group, alices: Client, alice: User) -> None:
    ensure_platform_keys()
    enrolled: Enrolled = enrol(group_a, "berta")
    secret = f"/api/nats/device/{enrolled.device.pk}/credentials"
    audit = f"/api/nats/tenant/{group_a.tenant_id}/audit"
    for who, path in ((enrolled.authorization, secret), (authorization(alice), audit)):
        answer = APIClient().get(path, headers={"If-None-Match": "*"}, **who)
        assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")
        assert not answer.has_header("ETag")
    assert not alices.get("/api/nats/nothing").has_header("ETag")
    posted = APIClient().post(
        "/api/nats/commands/preview",
        {"command": "ping", "group": str(group_a.pk)},
        format="json",
        **authorization(alice),
    )
    assert not posted.has_header("ETag")
