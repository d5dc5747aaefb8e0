"""A request with an Idempotency-Key has one outcome, however often and at once it is sent."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from rest_framework.response import Response
from rest_framework.test import APIClient

from devices.commands import issue as commands
from devices.enrolment import registrations
from devices.enrolment.credentials import delete_devices
from devices.models import BulkCommand, Command, CommandState, Device
from natsbridge.identity import nkeys
from tenants.actions import idempotency
from tenants.actions.keys import create_enrollment_key, revoke_enrollment_key
from tenants.broker.accounts import ensure_platform_keys
from tenants.credentials.use import record_password_uses
from tenants.models import Credential, EnrollmentKey, Group, IdempotentRequest, User, hash_token
from tenants.models.idempotency import IDEMPOTENCY_LIFETIME
from tenants.retention import idempotency_keys
from tests.support.people import authorization

BULK = "/api/nats/commands"
REGISTER = "/api/nats/agent/register"
AT_ONCE = 3
ONE = {"Idempotency-Key": "one"}

pytestmark = pytest.mark.usefixtures("redis_server")


@pytest.fixture
def key(group_a: Group) -> str:
    ensure_platform_keys()
    return create_enrollment_key(group_a, name="office", max_uses=1)[1]


def to(device: Device) -> str:
    return f"/api/nats/device/{device.pk}/command"


def post(path: str, body: Any, *, by: User | None = None, **headers: str) -> Response:
    who = authorization(by) if by else {}
    return APIClient().post(path, body, format="json", headers=ONE | headers, **who)


def register(group: Group, key: str, **changes: Any) -> Response:
    body = {"groupuuid": str(group.pk), "devicename": "anna", "enrollment_key": key}
    return post(REGISTER, body | changes)


def is_valid(answer: Response) -> bool:
    """Whether both secrets of a registration are."""
    given = answer.json()
    password = given["nats_credentials"]["password"]
    held = Credential.objects.live().filter(digest=hash_token(password)).exists()
    token = Device.objects.holding_token(given["device_token"]).exists()
    assert held == token
    return token


def at_once(
    monkeypatch: pytest.MonkeyPatch, where: Any, send: Callable[[], Response]
) -> list[Response]:
    """Send it AT_ONCE times, so that each reaches the claim of its key before any goes on."""
    barrier, claim = threading.Barrier(AT_ONCE, timeout=60), where.claim

    def claim_together(*args: Any) -> Any:
        barrier.wait()
        return claim(*args)

    def in_thread(_: int) -> Response:
        try:
            return send()
        finally:
            connection.close()

    with monkeypatch.context() as patch, ThreadPoolExecutor(AT_ONCE) as threads:
        patch.setattr(where, "claim", claim_together)
        return sorted(threads.map(in_thread, range(AT_ONCE)), key=lambda answer: answer.status_code)


@pytest.mark.django_db(transaction=True)
def test_of_equal_commands_sent_at_once_one_is_issued(
    device_a: Device, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = authorization(alice)

    def send() -> Response:
        return APIClient().post(
            to(device_a), {"command": "ping"}, format="json", headers=ONE, **who
        )

    answers = at_once(monkeypatch, idempotency, send)
    assert [answer.status_code for answer in answers] == [200, 200, 202]
    assert {answer.json()["command_id"] for answer in answers} == {str(Command.objects.get().uuid)}


@pytest.mark.django_db(transaction=True)
def test_of_equal_bulk_commands_sent_at_once_one_is_issued_and_each_answer_is_whole(
    device_a: Device, group_a: Group, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    who, body = authorization(alice), {"command": "ping", "group": str(group_a.pk)}

    def send() -> Response:
        return APIClient().post(BULK, body, format="json", headers=ONE, **who)

    answers = at_once(monkeypatch, idempotency, send)
    assert [answer.status_code for answer in answers] == [200, 200, 202]
    assert answers[0].json() == answers[1].json() == answers[2].json()
    assert answers[0].json()["total"] == BulkCommand.objects.get().commands.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_equal_registrations_sent_at_once_one_device_comes_and_the_last_answer_is_valid(
    group_a: Group, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = at_once(monkeypatch, registrations, lambda: register(group_a, key))
    assert [answer.status_code for answer in answers] == [200, 200, 201]
    assert {answer.json()["deviceuuid"] for answer in answers} == {str(Device.objects.get().pk)}
    assert sum(is_valid(answer) for answer in answers) == 1
    assert EnrollmentKey.objects.get().uses == 1


def test_a_different_request_with_the_same_key_is_refused(
    device_a: Device, device_b: Device, group_a: Group, alice: User, key: str
) -> None:
    ping = {"command": "ping"}
    bulk = ping | {"group": str(group_a.pk)}
    assert post(to(device_a), ping, by=alice).status_code == 202
    assert register(group_a, key).status_code == 201
    refused = [
        post(to(device_a), ping | {"parameters": {"n": 1}}, by=alice),
        post(to(device_a), ping | {"deadline": "2h"}, by=alice),
        post(BULK, bulk, by=alice),
        register(group_a, key, devicename="berta"),
        register(group_a, key, nkey_public=nkeys.generate("user").public),
    ]
    for answer in refused:
        assert (answer.status_code, answer.json()["type"]) == (422, "idempotency-key-reused")
        assert '"one"' in answer.json()["detail"]
    assert (Command.objects.count(), BulkCommand.objects.count()) == (1, 0)
    assert Device.objects.filter(group=group_a).count() == 2
    assert post(BULK, bulk, by=alice, **{"Idempotency-Key": "two"}).status_code == 202


def test_a_bulk_command_is_retried_once_with_one_key(
    device_a: Device, group_a: Group, alice: User
) -> None:
    first = post(BULK, {"command": "ping", "group": str(group_a.pk)}, by=alice)
    Command.objects.all().move_to(CommandState.EXPIRED)
    path = f"{BULK}/{first.json()['bulk_id']}/retry"
    two = {"Idempotency-Key": "two"}
    answers = [post(path, None, by=alice, **two) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 200]
    assert answers[0].json() == answers[1].json()
    assert BulkCommand.objects.count() == 2


def test_a_key_is_free_again_after_a_day_and_its_row_goes(device_a: Device, alice: User) -> None:
    def send(n: int) -> int:
        body = {"command": "ping", "parameters": {"n": n}}
        return post(to(device_a), body, by=alice).status_code

    assert (send(1), send(1), send(2)) == (202, 200, 422)
    assert not idempotency_keys(timezone.now()).exists()
    IdempotentRequest.objects.update(at=timezone.now() - IDEMPOTENCY_LIFETIME)
    assert idempotency_keys(timezone.now() + timedelta(seconds=1)).exists()
    assert (send(2), send(2), send(1)) == (202, 200, 422)
    assert Command.objects.count() == 2


def test_a_request_that_failed_leaves_its_key_free(device_a: Device, alice: User) -> None:
    Device.objects.update(revoked_at=timezone.now())
    assert post(to(device_a), {"command": "ping"}, by=alice).status_code == 409
    Device.objects.update(revoked_at=None)
    assert post(to(device_a), {"command": "pong"}, by=alice).status_code == 202


def test_a_registration_sent_again_is_the_same_device_with_fresh_secrets(
    group_a: Group, key: str
) -> None:
    first = register(group_a, key)
    again = register(group_a, key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again["Cache-Control"] == "no-store"
    assert first.json()["deviceuuid"] == again.json()["deviceuuid"]
    assert (is_valid(first), is_valid(again)) == (False, True)
    stored = str(list(IdempotentRequest.objects.values()))
    for secret in (key, again.json()["device_token"]):
        assert secret not in stored


def test_a_registration_with_a_key_pair_sent_again_voids_the_jwt_before(
    group_a: Group, key: str
) -> None:
    pair = nkeys.generate("user")
    first = register(group_a, key, nkey_public=pair.public)
    again = register(group_a, key, nkey_public=pair.public)
    assert (first.status_code, again.status_code) == (201, 200)
    live = Credential.objects.get(ended_at=None)
    ended = Credential.objects.exclude(ended_at=None)
    assert ended.exists()
    assert all(row.issued_at < live.issued_at for row in ended)


@pytest.mark.parametrize("use", ["token", "password"])
def test_a_registration_whose_secrets_are_in_use_is_not_replaced(
    api: APIClient, group_a: Group, key: str, use: str
) -> None:
    first = register(group_a, key).json()
    if use == "token":
        path = f"/api/nats/device/{first['deviceuuid']}/status"
        headers = {"Authorization": f"Bearer {first['device_token']}"}
        assert api.get(path, headers=headers).status_code == 200
    else:
        record_password_uses(Credential.objects.all())
    again = register(group_a, key)
    assert (again.status_code, again.json()["type"]) == (409, "already-registered")
    assert Device.objects.holding_token(first["device_token"]).exists()
    assert Credential.objects.live().count() == 1


def test_a_registration_is_not_sent_again_past_a_refusal(
    group_a: Group, key: str, alice: User
) -> None:
    _, other = create_enrollment_key(group_a, name="other")
    register(group_a, key)
    assert register(group_a, other).status_code == 201, "a key is that of one enrolment key"
    assert register(group_a, "wge_wrong").status_code == 401
    revoke_enrollment_key(EnrollmentKey.objects.get(name="office"))
    assert register(group_a, key).status_code == 401
    delete_devices(list(Device.objects.all()), by=alice)
    gone = register(group_a, other)
    assert (gone.status_code, "deleted" in gone.json()["detail"]) == (409, True)


def test_the_action_takes_a_person_for_each_key(device_a: Device, alice: User, bob: User) -> None:
    key = idempotency.IdempotencyKey.of("one", "anything")
    first, _ = commands.issue_once(key, device_a, "ping", {}, by=alice)
    assert commands.issue_once(key, device_a, "ping", {}, by=alice) == (first, False)
    assert commands.issue_once(key, device_a, "ping", {}, by=bob)[1]
