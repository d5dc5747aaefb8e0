"""Dead letters and subscribers by the API, for staff who may see them in the admin."""

import base64
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from natsbridge.models import DeadLetter
from natsbridge.subscriber import status
from tenants.models import Action, AuditEntry, Role, Tenant, User
from tests.support.people import authorization

LETTERS, SUBSCRIBERS = "/api/dead-letters", "/api/subscribers"
State = DeadLetter.State


def staff(*permissions: str) -> User:
    user = User.objects.create_user("-".join(("stella", *permissions)), is_staff=True)
    names = ("change_tenant", *permissions)
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    return user


def caller(person: User, role: Role = Role.ADMIN) -> APIClient:
    api = APIClient()
    api.credentials(**authorization(person, role))
    return api


@pytest.fixture
def as_staff(db: None) -> APIClient:
    return caller(staff("change_deadletter", "view_subscriberstatus"))


def dead_letter(reason: str = "malformed", **fields: Any) -> DeadLetter:
    fields = {"subject": "tenant.x", "body": b"\xff{", "detail": "why not", **fields}
    return DeadLetter.objects.create(received_at=timezone.now(), reason=reason, **fields)


def listed(api: APIClient, **query: Any) -> list[int]:
    answer = api.get(LETTERS, query)
    assert answer.status_code == 200, answer.content
    return [row["id"] for row in answer.json()["results"]]


def test_they_are_for_staff_who_may_see_them_in_the_admin(
    as_staff: APIClient, alice: User, charlie: User
) -> None:
    one = dead_letter()
    status.beat("host:1", started_at=timezone.now(), connected=True, details={"counters": {"a": 1}})
    reads = (LETTERS, f"{LETTERS}/{one.pk}", SUBSCRIBERS, f"{SUBSCRIBERS}/host:1")
    writes = [f"{LETTERS}/{one.pk}/{what}" for what in ("replay", "discard")]
    writes += [f"{LETTERS}/{what}?reason=malformed" for what in ("replay", "discard")]
    looks_on = staff("view_deadletter")
    for person in (alice, charlie, staff()):
        assert {caller(person).get(path).status_code for path in reads} == {403}
        assert {caller(person).post(path).status_code for path in writes} == {403}
    assert [caller(looks_on).get(path).status_code for path in reads] == [200, 200, 403, 403]
    assert {caller(looks_on).post(path).status_code for path in writes} == {403}
    assert not DeadLetter.objects.exclude(state=State.WAITING, replay_requested_at=None).exists()
    assert {as_staff.get(path).status_code for path in reads} == {200}


def test_a_list_is_filtered_and_reads_no_bodies(as_staff: APIClient) -> None:
    tenant, device, now = uuid4(), uuid4(), timezone.now()
    first = dead_letter("malformed", tenant=tenant, kind="heartbeat", dead_lettered_at=now)
    second = dead_letter("failed", device=device, subject="tenant.y", state=State.REPLAYED)
    old = dead_letter("failed", dead_lettered_at=now - timedelta(days=2))
    with CaptureQueriesContext(connection) as queries:
        assert listed(as_staff) == [old.pk, second.pk, first.pk]
    table = DeadLetter._meta.db_table
    for query in queries:
        assert f'"{table}"."body",' not in query["sql"].replace(f'LENGTH("{table}"."body")', "")
    for query, expected in (
        ({"reason": "failed"}, [old, second]),
        ({"tenant": tenant}, [first]),
        ({"tenant": uuid4()}, []),
        ({"device": device}, [second]),
        ({"kind": "heartbeat"}, [first]),
        ({"state": "waiting"}, [old, first]),
        ({"until": (now - timedelta(days=1)).isoformat()}, [old]),
        ({"since": (now - timedelta(days=1)).isoformat(), "reason": "failed"}, [second]),
        ({"search": "tenant.y"}, [second]),
        ({"ordering": "dead_lettered_at", "limit": 1}, [old]),
    ):
        assert listed(as_staff, **query) == [each.pk for each in expected], query


@pytest.mark.parametrize(
    "query",
    [
        {"reason": "x" * 41},
        {"reason": "a\0b"},
        {"state": "lost"},
        {"tenant": "x"},
        {"since": "yesterday"},
        {"colour": "red"},
        {"ordering": "body"},
    ],
)
def test_a_filter_that_cannot_be_read_is_named(as_staff: APIClient, query: Any) -> None:
    [name] = query
    paths = [("get", LETTERS)]
    if name != "ordering":
        paths += [("post", f"{LETTERS}/replay"), ("post", f"{LETTERS}/discard")]
    for method, path in paths:
        send = getattr(as_staff, method)
        answer = send(path, query) if method == "get" else send(path, query_params=query)
        assert answer.status_code == 400
        assert [error["field"] for error in answer.json()["errors"]] == [name]


def test_one_is_shown_with_its_body_replayed_and_discarded(as_staff: APIClient) -> None:
    one, other = dead_letter(headers={"a": "b"}), dead_letter()
    shown = as_staff.get(f"{LETTERS}/{one.pk}/").json()
    assert base64.b64decode(shown["body"]) == b"\xff{"
    assert (shown["size"], shown["headers"], shown["state"]) == (2, {"a": "b"}, "waiting")
    asked = as_staff.post(f"{LETTERS}/{one.pk}/replay/")
    assert asked.status_code == 202
    assert asked.json()["replay_requested_by"].startswith("stella")
    assert "body" not in asked.json()
    assert as_staff.post(f"{LETTERS}/{one.pk}/replay").status_code == 202, "asked for already"
    gone = as_staff.post(f"{LETTERS}/{other.pk}/discard")
    assert (gone.status_code, gone.json()["state"]) == (200, "discarded")
    for what in ("replay", "discard"):
        answer = as_staff.post(f"{LETTERS}/{other.pk}/{what}")
        assert (answer.status_code, answer.json()["type"]) == (409, "already-resolved")
        assert as_staff.post(f"{LETTERS}/{one.pk}/{what}", {"a": 1}, "json").status_code == 400
    for unknown in ("0", "9" * 18, "9" * 19, "x"):
        assert as_staff.get(f"{LETTERS}/{unknown}").status_code == 404
    assert as_staff.delete(f"{LETTERS}/{one.pk}").status_code == 405


@pytest.mark.parametrize("query", ["", "?reason=", "?reason=%20", "?tenant=&kind=%09", "?since="])
def test_a_blank_filter_is_none(as_staff: APIClient, query: str) -> None:
    dead_letter()
    for what in ("replay", "discard"):
        assert as_staff.post(f"{LETTERS}/{what}{query}").status_code == 400
    waiting = DeadLetter.objects.filter(state=State.WAITING, replay_requested_at=None)
    assert waiting.count() == 1


def test_a_name_that_postgres_cannot_store_is_unknown(as_staff: APIClient) -> None:
    for path in (f"{SUBSCRIBERS}/%00", f"{SUBSCRIBERS}/a%00b/", f"{LETTERS}/9{'9' * 17}"):
        assert as_staff.get(path).status_code == 404


def test_staff_who_read_a_tenants_dead_letter_are_in_its_audit(
    as_staff: APIClient, tenant_a: Tenant
) -> None:
    letter = dead_letter(tenant=tenant_a.pk)
    for path in (f"{LETTERS}/{letter.pk}", LETTERS, SUBSCRIBERS):
        assert as_staff.get(path).status_code == 200
    read = AuditEntry.objects.filter(action=Action.STAFF_READ).order_by("pk")
    assert list(read.values_list("tenant_uuid", "target")) == [
        (tenant_a.pk, f"dead letter {letter.pk}"),
        (None, ""),
    ]


def test_all_that_match_are_replayed_or_discarded(as_staff: APIClient) -> None:
    for reason in ("malformed", "malformed", "failed", "other"):
        dead_letter(reason)
    dead_letter("malformed", state=State.DISCARDED)
    for what in ("replay", "discard"):
        assert as_staff.post(f"{LETTERS}/{what}").status_code == 400
        assert as_staff.post(f"{LETTERS}/{what}?reason=").status_code == 400
    asked = as_staff.post(f"{LETTERS}/replay?reason=malformed")
    assert (asked.status_code, asked.json()) == (202, {"count": 2})
    gone = as_staff.post(f"{LETTERS}/discard?reason=failed")
    assert (gone.status_code, gone.json()) == (200, {"count": 1})
    left = DeadLetter.objects.filter(state=State.WAITING, replay_requested_at=None)
    assert [each.reason for each in left] == ["other"]


def test_a_subscriber_shows_what_it_says_of_itself(as_staff: APIClient) -> None:
    now = timezone.now()
    status.beat("host:1", started_at=now, connected=True, paused=True, details={"counters": {}})
    status.beat("host:2", started_at=now, connected=False, details={})
    rows = as_staff.get(SUBSCRIBERS).json()["results"]
    assert [(row["instance"], row["connected"], row["paused"]) for row in rows] == [
        ("host:1", True, True),
        ("host:2", False, False),
    ]
    shown = as_staff.get(f"{SUBSCRIBERS}/host:1").json()
    assert shown == rows[0]
    assert (shown["silent"], shown["details"]) == (False, {"counters": {}})
    assert as_staff.get(f"{SUBSCRIBERS}/host:3").status_code == 404
    assert as_staff.get(SUBSCRIBERS, {"instance": "host:1"}).status_code == 400
    assert as_staff.post(SUBSCRIBERS, {}, "json").status_code == 403


def test_both_are_described(api: APIClient, db: None) -> None:
    schema = api.get("/api/schema/", HTTP_ACCEPT="application/vnd.oai.openapi+json").json()
    described = [
        (path, method, operation["summary"])
        for path, operations in schema["paths"].items()
        if path.startswith((LETTERS, SUBSCRIBERS))
        for method, operation in operations.items()
    ]
    assert len(described) == 8
    replay = schema["paths"][f"{LETTERS}/replay"]["post"]
    assert {each["name"] for each in replay["parameters"]} >= {"reason", "tenant", "since"}
    assert "limit" not in {each["name"] for each in replay["parameters"]}
