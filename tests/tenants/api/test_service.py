"""The service's state and its pause over the API, for staff alone."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.utils import timezone
from rest_framework.test import APIClient

from devices.models import Device
from natsbridge.models import Pause, SubscriberStatus
from natsbridge.subscriber import status
from tenants.api.nats.service import ServiceAnswer
from tenants.models import AuditEntry, Role, User
from tests.support.people import authorization, enrol

STATUS, START, STOP = (f"/api/nats/service/{name}" for name in ("status", "start", "stop"))


@pytest.fixture
def staff(db: None) -> User:
    user = User.objects.create_user("stella", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="change_tenant"))
    return user


def subscriber(name: str, **details: Any) -> None:
    fields = {"connected": True, "paused": details.pop("paused", False)}
    status.beat(name, started_at=timezone.now(), details=details, **fields)


@pytest.mark.parametrize("address", [STATUS, START, STOP])
def test_the_service_is_for_staff_who_manage_the_platform(
    api: APIClient, staff: User, alice: User, charlie: User, device_a: Device, address: str
) -> None:
    subscriber("one")
    send = api.get if address == STATUS else api.post
    assert send(address).status_code == 401
    assert send(address, **enrol(device_a.group, "other").authorization).status_code == 403
    clerk = User.objects.create_user("clara", is_staff=True)
    for person in (alice, charlie, clerk):
        assert send(address, **authorization(person)).status_code == 403
    weak = send(address, **authorization(staff, Role.OPERATOR))
    assert weak.status_code == (200 if address == STATUS else 403)
    assert not Pause.objects.exists()
    assert send(address, **authorization(staff)).status_code == 200


@pytest.mark.parametrize(
    "body", [{"why": "x"}, {"reason": "x" * 301}, {"reason": None}, {"reason": "\x00"}, []]
)
def test_a_pause_that_cannot_be_read_is_refused(api: APIClient, staff: User, body: object) -> None:
    subscriber("one")
    assert api.post(STOP, body, "json", **authorization(staff)).status_code == 400
    assert not Pause.objects.exists()
    assert api.post(START, {"reason": "x"}, "json", **authorization(staff)).status_code == 400


def test_the_states_that_are_wanted_and_reached(api: APIClient, staff: User) -> None:
    headers = authorization(staff)
    states: list[tuple[str, str]] = []

    def note(answer: Any) -> Any:
        told = answer.json()
        assert told.keys() == ServiceAnswer().fields.keys()
        states.append((told["desired_state"], told["actual_state"]))
        return told["pause"]

    SubscriberStatus.objects.create(
        instance="two", started_at=timezone.now(), beat_at=timezone.now(), connected=False
    )
    assert note(api.get(STATUS, **headers)) is None
    subscriber("one")
    note(api.get(STATUS, **headers))
    before = timezone.now().timestamp()
    pause = note(api.post(STOP, {"reason": "the move"}, "json", **headers))
    assert (pause["by"], pause["reason"]) == ("stella", "the move")
    assert before - 1 < pause["since"] < timezone.now().timestamp() + 1
    for name in ("one", "two"):
        subscriber(name, paused=True)
    again = note(api.post(STOP, {"reason": "another"}, "json", **headers))
    assert again == pause, "the first pause stands"
    note(api.post(START, **headers))
    assert states == [
        ("running", "disconnected"),
        ("running", "running"),
        ("paused", "pausing"),
        ("paused", "paused"),
        ("running", "resuming"),
    ]
    api.post(START, **headers)
    told = AuditEntry.objects.filter(action__startswith="service.").order_by("id")
    assert [(each.action, each.actor, each.detail) for each in told] == [
        ("service.paused", "stella", {"reason": "the move"}),
        ("service.resumed", "stella", {}),
    ]


def test_the_figures_of_all_subscribers_are_added_up(api: APIClient, staff: User) -> None:
    consumer = {
        "stream": "INGEST",
        "consumer": "ingest-writer",
        "pending": 3,
        "unacknowledged": 1,
        "redelivered": 0,
        "lag_seconds": 2.5,
    }
    closed, opened = {"state": "closed", "times_opened": 0}, {"state": "open", "times_opened": 2}
    opened |= {"since": timezone.now().isoformat(), "reason": "refused"}
    subscriber("one", counters={"a": 1, "b": 2}, breakers={"postgres": opened})
    subscriber("two", counters={"b": 3}, breakers={"postgres": closed}, consumers=[consumer])
    subscriber("gone", counters={"b": 1000})
    long_ago = timezone.now() - timedelta(minutes=1)
    SubscriberStatus.objects.filter(instance="gone").update(beat_at=long_ago)
    told = api.get(STATUS, **authorization(staff)).json()
    assert told["counters"] == {"a": 1, "b": 5}
    assert told["breakers"]["postgres"]["reason"] == "refused"
    assert told["consumers"] == [consumer]
    assert {each["instance"] for each in told["subscribers"]} == {"one", "two"}


def test_without_a_subscriber_the_wish_is_kept_and_the_answer_says_how_to_start_one(
    api: APIClient, staff: User
) -> None:
    headers = authorization(staff)
    for send, address, wanted in (
        (api.get, STATUS, False),
        (api.post, STOP, True),
        (api.post, START, False),
    ):
        answer = send(address, **headers)
        assert answer.status_code == 503
        assert answer.json()["type"] == "no-subscriber"
        assert "manage.py nats_subscriber" in answer.json()["detail"]
        assert Pause.objects.exists() is wanted


def test_a_paused_service_leaves_the_web_healthy_and_says_so(
    api: APIClient, staff: User, redis_server: object
) -> None:
    subscriber("one")
    api.post(STOP, **authorization(staff))
    subscriber("one", paused=True)
    answer = api.get("/api/nats/health")
    assert answer.status_code == 200
    assert answer.json()["components"]["subscriber"] == "paused"
