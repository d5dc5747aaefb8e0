"""A tenant's audit in the API: read, filtered, taken along."""

import csv
import io
import json
from datetime import UTC, datetime

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpResponseBase, StreamingHttpResponse
from rest_framework.test import APIClient

from devices.models import Device
from tenants.audit.writer import Actor, record_action
from tenants.models import Action, ActorKind, AuditEntry, Role, Tenant, User
from tests.support.people import authorization


def page_of(tenant: Tenant) -> str:
    return f"/api/nats/tenant/{tenant.pk}/audit"


def content(answer: HttpResponseBase) -> str:
    assert isinstance(answer, StreamingHttpResponse)

    async def collect() -> bytes:
        return b"".join([piece async for piece in answer])

    return async_to_sync(collect)().decode()


def happened(tenant: Tenant, number: int = 1, actor: str = "mallory") -> None:
    for n in range(number):
        by = Actor(ActorKind.UNKNOWN, actor)
        record_action(Action.BROKER_REFUSED, tenant=tenant.pk, by=by, target=f"{n}")


def test_an_admin_reads_the_own_tenant_only(
    api: APIClient, alice: User, tenant_a: Tenant, tenant_b: Tenant
) -> None:
    happened(tenant_a)
    happened(tenant_b)
    answer = api.get(page_of(tenant_a), **authorization(alice))
    assert answer.status_code == 200
    listed = answer.json()["entries"]
    ours = AuditEntry.objects.filter(tenant_uuid=tenant_a.pk).order_by("-id")
    assert [entry["id"] for entry in listed] == [entry.pk for entry in ours]
    assert listed[0]["actor"] == "mallory"
    assert listed[0]["sealed"] is False


@pytest.mark.parametrize("part", ["", "/export"])
@pytest.mark.parametrize(
    ("who", "role", "status"),
    [
        ("charlie", Role.ADMIN, 404),
        ("bob", Role.ADMIN, 403),
        ("alice", Role.OPERATOR, 403),
        (None, None, 401),
    ],
)
def test_nobody_but_an_admin_reads_it(
    api: APIClient,
    alice: User,
    bob: User,
    charlie: User,
    tenant_a: Tenant,
    who: str | None,
    role: Role | None,
    status: int,
    part: str,
) -> None:
    headers = authorization(User.objects.get(username=who), role) if who and role else {}
    answer = api.get(page_of(tenant_a) + part, **headers)
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    assert not AuditEntry.objects.filter(action=Action.AUDIT_EXPORTED).exists()


def test_pages_follow_each_other_without_a_gap(
    api: APIClient, alice: User, tenant_a: Tenant
) -> None:
    happened(tenant_a, 5)
    headers = authorization(alice)
    targets: list[str] = []
    page: str | None = f"{page_of(tenant_a)}?limit=2&action=broker.refused"
    while page:
        answer = api.get(page, **headers).json()
        assert len(answer["entries"]) <= 2
        targets += [entry["target"] for entry in answer["entries"]]
        # What comes in meanwhile moves nothing.
        AuditEntry.objects.create(action="x", actor_kind="person", tenant_uuid=tenant_a.pk)
        page = answer["next"]
    assert targets == ["4", "3", "2", "1", "0"]


def test_filters_narrow_it(api: APIClient, alice: User, tenant_a: Tenant, device_a: Device) -> None:
    happened(tenant_a, 2)
    middle = datetime.now(UTC)
    happened(tenant_a, 1, actor="=eve")

    def count(**query: object) -> int:
        answer = api.get(page_of(tenant_a), query, **authorization(alice))
        return len(answer.json()["entries"])

    assert count(action="broker.refused") == 3
    assert count(actor="=eve") == 1
    assert count(device=device_a.pk) == 1
    assert count(since=middle.timestamp()) == 1
    assert count(since=middle.isoformat(), action="broker.refused") == 1
    assert count(until=middle.isoformat(), action="broker.refused") == 2


@pytest.mark.parametrize(
    "query",
    [
        *("action=nonsense", "action=person.login", "device=1"),
        *("since=today", "since=nan", "cursor=0", "limit=10001"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(
    api: APIClient, alice: User, tenant_a: Tenant, query: str
) -> None:
    answer = api.get(f"{page_of(tenant_a)}?{query}", **authorization(alice))
    assert answer.status_code == 400
    assert query.split("=")[0] in answer.json()["detail"]


def test_an_export_is_csv_that_no_spreadsheet_runs(
    api: APIClient, alice: User, tenant_a: Tenant, tenant_b: Tenant
) -> None:
    formulas = ["=1+1", "+1", "-1", "@x", "\tx", "\rx"]
    for formula in formulas:
        happened(tenant_a, actor=formula)
    happened(tenant_b)
    url = f"{page_of(tenant_a)}/export?format=csv&action=broker.refused"
    answer = api.get(url, **authorization(alice), HTTP_ACCEPT="text/csv")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(content(answer), newline="")))
    assert [row["actor"] for row in rows] == [f"'{formula}" for formula in formulas]
    assert {row["tenant_uuid"] for row in rows} == {str(tenant_a.pk)}
    told = AuditEntry.objects.get(action=Action.AUDIT_EXPORTED)
    assert (told.actor, told.tenant_uuid) == ("alice", tenant_a.pk)
    assert told.detail == {"format": "csv", "filters": {"action": "broker.refused"}}


def test_an_export_as_json_lines_has_every_row_in_pieces(
    api: APIClient, alice: User, tenant_a: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenants.downloads.ROWS_AT_A_TIME", 2)
    happened(tenant_a, 5)
    url = f"{page_of(tenant_a)}/export?format=jsonl"
    answer = api.get(url, **authorization(alice))
    assert answer["Content-Disposition"].endswith('.jsonl"')
    rows = [json.loads(line) for line in content(answer).splitlines()]
    ours = AuditEntry.objects.filter(tenant_uuid=tenant_a.pk).order_by("id")
    assert [row["id"] for row in rows] == [entry.pk for entry in ours]
    assert datetime.fromisoformat(rows[0]["at"]) == ours[0].at


def test_another_format_is_refused(api: APIClient, alice: User, tenant_a: Tenant) -> None:
    answer = api.get(f"{page_of(tenant_a)}/export?format=xml", **authorization(alice))
    assert answer.status_code == 400
    assert "format" in answer.json()["detail"]
