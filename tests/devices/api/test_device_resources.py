"""What lies below a device's address: reported data, live metrics, presence, connections."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from devices.models import BrokerSession, Device, PresenceChange, RealtimeData
from devices.telemetry import ring_buffers
from devices.telemetry.ring_buffers import Point
from natsbridge.redis import client
from tenants.models import User
from tests.support.people import authorization, enrol

KINDS = ("reports", "metrics", "presence", "sessions")


@pytest.fixture
def as_bob(bob: User, api: APIClient) -> APIClient:
    api.credentials(**authorization(bob))
    return api


def below(device: Device, name: str) -> str:
    return f"/api/devices/{device.pk}/{name}/"


@pytest.mark.django_db
@pytest.mark.parametrize("name", KINDS)
def test_an_outsider_and_an_unknown_device_are_answered_alike(
    name: str, device_a: Device, charlie: User, api: APIClient
) -> None:
    api.credentials(**authorization(charlie))
    foreign = api.get(below(device_a, name))
    unknown = api.get(f"/api/devices/{uuid4()}/{name}/")
    assert foreign.status_code == unknown.status_code == 404
    assert foreign.json()["type"] == unknown.json()["type"]
    assert api.get(f"/api/devices/{'-' * 36}/{name}/").status_code == 404
    assert APIClient().get(below(device_a, name)).status_code == 401


@pytest.mark.django_db
@pytest.mark.parametrize("name", KINDS)
def test_a_devices_own_token_is_for_other_endpoints(
    name: str, group_a: Any, api: APIClient
) -> None:
    enrolled = enrol(group_a, "own")
    answer = api.get(below(enrolled.device, name), **enrolled.authorization)
    assert answer.status_code in (401, 403)


@pytest.mark.django_db
@pytest.mark.parametrize("name", KINDS)
def test_an_unknown_parameter_is_refused_by_name(
    name: str, device_a: Device, as_bob: APIClient
) -> None:
    answer = as_bob.get(below(device_a, name), {"colour": "red"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "colour")


@pytest.mark.django_db
def test_the_latest_report_of_each_kind_is_listed(device_a: Device, as_bob: APIClient) -> None:
    at = datetime(2026, 11, 1, 12, tzinfo=UTC)
    for kind in ("sysinfo", "monitoring:disks"):
        RealtimeData.objects.create(device=device_a, kind=kind, data={"of": kind}, received_at=at)
    rows = as_bob.get(below(device_a, "reports")).json()["results"]
    assert [row["kind"] for row in rows] == ["monitoring:disks", "sysinfo"]
    only = as_bob.get(below(device_a, "reports"), {"kind": "sysinfo"}).json()["results"]
    assert only == [
        {"kind": "sysinfo", "received_at": "2026-11-01T12:00:00Z", "data": {"of": "sysinfo"}}
    ]


@pytest.mark.django_db
def test_presence_is_listed_newest_first_in_a_span_of_time(
    device_a: Device, as_bob: APIClient
) -> None:
    start = datetime(2026, 11, 1, tzinfo=UTC)
    for hour in range(6):
        PresenceChange.objects.create(
            device=device_a,
            presence="offline" if hour % 2 else "online",
            at=start + timedelta(hours=hour),
            reported_by="broker",
            reason="Client Closed" if hour % 2 else "",
        )
    address = below(device_a, "presence")
    rows = as_bob.get(address, {"limit": 2}).json()
    assert [row["at"][11:13] for row in rows["results"]] == ["05", "04"]
    assert rows["results"][0]["reason"] == "Client Closed"
    following = as_bob.get(rows["next"]).json()["results"]
    assert [row["at"][11:13] for row in following] == ["03", "02"]
    span = {"since": "2026-11-01T01:00:00Z", "until": "2026-11-01T04:00:00Z"}
    wanted = as_bob.get(address, span | {"presence": "offline"}).json()["results"]
    assert [row["at"][11:13] for row in wanted] == ["03", "01"]
    assert as_bob.get(address, {"since": "yesterday"}).status_code == 400


@pytest.mark.django_db
def test_open_and_ended_connections_are_listed(device_a: Device, as_bob: APIClient) -> None:
    now = timezone.now()
    for number, ended in ((1, now), (2, None)):
        BrokerSession.objects.create(
            server_id="S",
            client_id=number,
            device=device_a,
            address="10.0.0.7",
            started_at=now + timedelta(seconds=number),
            ended_at=ended,
        )
    rows = as_bob.get(below(device_a, "sessions")).json()["results"]
    assert [(row["client_id"], row["ended_at"] is None) for row in rows] == [(2, True), (1, False)]


@pytest.mark.django_db
def test_all_metrics_that_a_device_sends_are_shown_whatever_their_names(
    device_a: Device, as_bob: APIClient, redis_server: object
) -> None:
    now = round(time.time() * 1000)
    points = [Point(now - 1000, 1.5), Point(now, 2.5)]
    ring_buffers.append({(device_a.pk, "cpu_percent"): points, (device_a.pk, "toner"): points})
    shown = as_bob.get(below(device_a, "metrics")).json()["metrics"]
    assert shown.keys() == {"cpu_percent", "toner"}
    assert [point["value"] for point in shown["toner"]] == [1.5, 2.5]
    assert datetime.fromisoformat(shown["toner"][1]["at"]).timestamp() == pytest.approx(now / 1000)
    one = as_bob.get(below(device_a, "metrics"), {"metric": "toner", "limit": 1}).json()["metrics"]
    assert [point["value"] for point in one["toner"]] == [2.5]
    assert one.keys() == {"toner"}
    both = as_bob.get(f"{below(device_a, 'metrics')}?metric=toner&metric=cpu_percent&limit=1")
    assert both.json()["metrics"].keys() == {"toner", "cpu_percent"}
    for wrong in ({"metric": "a b"}, {"limit": 0}, {"metric": ["x"] * 65}):
        assert as_bob.get(below(device_a, "metrics"), wrong).status_code == 400


def test_names_are_written_again_after_redis_was_away(
    device_a: Device, redis_server: object, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = {(device_a.pk, "toner"): [Point(1, 1.0)]}
    ring_buffers.append(series)
    client(settings.METRICS_REDIS_URL).flushall()
    ring_buffers.append(series)
    assert ring_buffers.names(device_a.pk) == []
    monkeypatch.setattr(ring_buffers, "_named_at", {})
    ring_buffers.append(series)
    assert ring_buffers.names(device_a.pk) == ["toner"]
    ring_buffers.forget([device_a.pk])
    assert ring_buffers.names(device_a.pk) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("moment", "status"),
    [
        ("0500-08-03T09:08:58+20:46", 200),
        ("0001-01-01T00:00:00+10:00", 400),
        ("9999-12-31T23:59:59-10:00", 400),
    ],
)
def test_moments_that_postgres_could_not_read_are_read_or_refused(
    device_a: Device, as_bob: APIClient, moment: str, status: int
) -> None:
    assert as_bob.get(below(device_a, "presence"), {"since": moment}).status_code == status


@pytest.mark.django_db
def test_an_address_that_no_route_matches_is_answered_as_a_problem(as_bob: APIClient) -> None:
    answer = as_bob.get("/api/devices/%0A/")
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
