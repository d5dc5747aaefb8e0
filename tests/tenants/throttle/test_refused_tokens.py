"""Wrong tokens and keys: throttled by network and name, and in the audit with counts."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.http import HttpResponse
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from devices.enrolment.naming import device_named
from devices.models import Device
from natsbridge.redis import client
from tenants.access import coalesced, shared_counts
from tenants.actions.keys import create_api_token, create_enrollment_key
from tenants.models import Action, AuditEntry, Group, Role, User
from tenants.origin import Origin, acting, network_name
from tenants.throttle import refused_tokens
from tests.support.people import Enrolled, authorization, enrol

URL = "/api/nats/agent/register"
HERE, NEXT_DOOR, ELSEWHERE = "203.0.113.7", "203.0.113.8", "198.51.100.7"
LIMIT = 20
MINUTE, WINDOW = shared_counts.WINDOW_SECONDS, 3600


@pytest.fixture(autouse=True)
def window(monkeypatch: pytest.MonkeyPatch) -> None:
    """So long a minute that no machine is too slow for it."""
    monkeypatch.setattr(shared_counts, "WINDOW_SECONDS", WINDOW)


@pytest.fixture
def enrolled(group_a: Group) -> Enrolled:
    return enrol(group_a, "anna-laptop")


def path(device: Device) -> str:
    return f"/api/nats/device/{device.pk}/tenant"


def wrong(api: APIClient, device: Device, address: str = HERE) -> HttpResponse:
    authorized = {"HTTP_AUTHORIZATION": "Bearer wgd_wrong", "REMOTE_ADDR": address}
    answer: HttpResponse = api.get(path(device), **authorized)
    return answer


def registration(group: Group, key: str) -> dict[str, Any]:
    content = {"groupuuid": str(group.pk), "devicename": "new", "hardwareinfo": {}}
    return content | {"enrollment_key": key}


def statuses(answers: Any) -> list[int]:
    return [answer.status_code for answer in answers]


def audit_rows() -> list[tuple[str, str, int]]:
    rows = AuditEntry.objects.filter(action=Action.API_REFUSED).order_by("pk")
    return [(row.target, row.address, row.count) for row in rows]


@pytest.mark.usefixtures("redis_server")
def test_sixty_wrong_device_tokens_are_throttled_after_the_first_twenty(
    api: APIClient, device_a: Device
) -> None:
    answers = [wrong(api, device_a) for _ in range(60)]
    assert statuses(answers) == [401] * LIMIT + [429] * 40
    last = answers[-1]
    assert last["Content-Type"] == "application/problem+json"
    assert 1 <= int(last["Retry-After"]) <= WINDOW
    problem = last.json()
    assert (problem["status"], problem["title"]) == (429, "Too Many Requests")
    assert "Too many wrong device tokens" in problem["detail"]


@pytest.mark.usefixtures("redis_server")
def test_a_valid_token_is_never_refused_for_its_neighbours_failures(
    api: APIClient, enrolled: Enrolled, bob: User, group_a: Group
) -> None:
    for _ in range(60):
        wrong(api, enrolled.device)
    from_there = {"REMOTE_ADDR": HERE}
    status = f"/api/nats/device/{enrolled.device.pk}/status"
    assert api.get(path(enrolled.device), **enrolled.authorization, **from_there).status_code == 200
    assert api.get(status, **authorization(bob), **from_there).status_code == 200
    _, key = create_enrollment_key(group_a, name="office")
    content = registration(group_a, key)
    assert api.post(URL, content, format="json", **from_there).status_code == 201


@pytest.mark.usefixtures("redis_server")
def test_a_network_is_throttled_whatever_it_names_and_no_other_network_is(
    api: APIClient, device_a: Device, device_b: Device, settings: Settings
) -> None:
    settings.AUTH_FAILURE_LIMIT = 2
    assert statuses(wrong(api, device_a, HERE) for _ in range(3)) == [401, 401, 429]
    assert wrong(api, device_b, NEXT_DOOR).status_code == 429
    assert wrong(api, device_b, ELSEWHERE).status_code == 401


@pytest.mark.usefixtures("redis_server")
def test_a_device_is_guessed_at_no_faster_from_many_networks(
    api: APIClient, device_a: Device, device_b: Device, settings: Settings
) -> None:
    settings.AUTH_FAILURE_LIMIT = 2
    answers = [wrong(api, device_a, f"203.0.{number}.7") for number in range(3)]
    assert statuses(answers) == [401, 401, 429]
    assert wrong(api, device_b, "203.0.9.7").status_code == 401


@pytest.mark.usefixtures("redis_server")
def test_wrong_enrolment_keys_are_throttled_alike(
    api: APIClient, group_a: Group, settings: Settings
) -> None:
    settings.AUTH_FAILURE_LIMIT = 2
    content = registration(group_a, "wge_wrong")
    answers = [api.post(URL, content, format="json") for _ in range(4)]
    assert statuses(answers) == [401, 401, 429, 429]
    assert "Retry-After" in answers[-1]
    assert not Device.objects.exists()
    row = AuditEntry.objects.get(action=Action.API_REFUSED)
    assert (row.tenant_uuid, row.target) == (group_a.tenant_id, f"group {group_a.name}")


@pytest.mark.usefixtures("redis_server")
def test_wrong_api_tokens_are_throttled_alike(
    api: APIClient, bob: User, device_a: Device, settings: Settings
) -> None:
    settings.AUTH_FAILURE_LIMIT = 2
    _, plain = create_api_token(bob, name="cron", role=Role.VIEWER, expires_at=None)
    status = f"/api/nats/device/{device_a.pk}/status"

    def ask(token: str, address: str) -> int:
        header = {"HTTP_AUTHORIZATION": f"Token {token}", "REMOTE_ADDR": address}
        return int(api.get(status, **header).status_code)

    # The right beginning: somebody guesses at this very token.
    answers = [ask(plain[:-4] + "0000", f"203.0.{number}.7") for number in range(4)]
    assert answers == [401, 401, 429, 429]
    assert ask(plain, "203.0.3.7") == 200
    assert audit_rows() == [("API token cron of bob", "203.0.0.7", 1)]
    assert [ask("wgw_nothing", ELSEWHERE) for _ in range(3)] == [401, 401, 429]
    assert ask("wgw_\xff\x00", ELSEWHERE) == 429
    assert plain[4:] not in str(list(AuditEntry.objects.values()))


@pytest.mark.usefixtures("redis_server")
def test_no_token_at_all_is_not_a_failure(api: APIClient, device_a: Device) -> None:
    assert statuses(api.get(path(device_a)) for _ in range(30)) == [401] * 30
    assert audit_rows() == []


@pytest.mark.usefixtures("redis_server")
def test_a_throttled_minute_ends(api: APIClient, device_a: Device, settings: Settings) -> None:
    settings.AUTH_FAILURE_LIMIT = 2
    assert MINUTE == 60
    assert statuses(wrong(api, device_a) for _ in range(3)) == [401, 401, 429]
    store = client(settings.REDIS_URL)
    counters = list(store.scan_iter(f"{shared_counts.PREFIX}:of:*"))
    assert len(counters) == 2
    for counter in counters:
        assert 0 < store.ttl(counter) <= WINDOW
        # As when that has passed.
        store.delete(counter)
    assert wrong(api, device_a).status_code == 401


@pytest.mark.usefixtures("redis_server")
def test_failures_are_one_audit_row_a_minute_for_whom_the_device_belongs_to(
    api: APIClient, device_a: Device
) -> None:
    for _ in range(60):
        wrong(api, device_a)
    target = f"device {device_a.name}"
    assert audit_rows() == [(target, HERE, 1)]
    now = time.time()
    coalesced.flush(now)
    assert audit_rows() == [(target, HERE, 1)]
    coalesced.flush(now + WINDOW + 1)
    assert audit_rows() == [(target, HERE, 1), (target, HERE, 59)]
    # A minute without any, and the next one is told at once again.
    coalesced.flush(now + 2 * WINDOW + 2)
    wrong(api, device_a)
    assert audit_rows()[2:] == [(target, HERE, 1)]
    row = AuditEntry.objects.filter(action=Action.API_REFUSED).latest("pk")
    assert (row.tenant_uuid, row.device_uuid, row.via) == (device_a.tenant_id, device_a.pk, "api")
    assert row.detail == {
        "kind": "device token",
        "route": "api/nats/device/<uuid:uuid>/tenant",
    }


@pytest.mark.usefixtures("redis_server")
def test_alice_finds_them_in_her_audit_and_charlie_does_not(
    api: APIClient, device_a: Device, alice: User, charlie: User
) -> None:
    wrong(api, device_a)
    assert AuditEntry.objects.visible_to(alice, Role.ADMIN).filter(action=Action.API_REFUSED)
    seen = AuditEntry.objects.visible_to(charlie, Role.ADMIN)
    assert not seen.filter(action=Action.API_REFUSED)


@pytest.mark.usefixtures("redis_server")
def test_what_names_nobody_is_told_by_its_network(api: APIClient, db: None) -> None:
    unknown = Device(name="nobody")
    for number in range(5):
        wrong(api, unknown, f"2001:db8:1:2::{number}")
    wrong(api, unknown, "2001:db8:1:3::1")
    assert audit_rows() == [("", "2001:db8:1:2::/64", 1), ("", "2001:db8:1:3::/64", 1)]


@pytest.mark.usefixtures("redis_server", "db")
def test_a_flood_from_ever_new_networks_is_bounded_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_counts, "ROWS_OF_EACH", 10)
    at = time.time() // WINDOW * WINDOW
    monkeypatch.setattr(shared_counts.time, "time", lambda: at)
    for number in range(50):
        with acting(Origin("api", "", f"203.0.{number}.1")):
            refused_tokens.record("device token", "somewhere", None)
    assert len(audit_rows()) == 10
    coalesced.flush(at + WINDOW + 1)
    surplus = AuditEntry.objects.filter(action=Action.API_REFUSED).latest("pk")
    assert (surplus.count, surplus.detail["reason"]) == (
        40,
        "too many different ones in one minute",
    )
    assert sum(count for _, _, count in audit_rows()) == 50


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("redis_server")
def test_several_processes_share_one_count(device_a: Device) -> None:
    """Threads stand for them: between them is nothing but Redis and the database."""

    def fail(_: int) -> int:
        try:
            with acting(Origin("api", "", HERE)):
                principal = device_named(device_a.pk)
                return refused_tokens.record("device token", "somewhere", principal)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        waits = list(pool.map(fail, range(100)))
    assert len([wait for wait in waits if not wait]) == LIMIT
    now = time.time() + WINDOW + 1
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: (coalesced.flush(now), connection.close()), range(8)))
    assert [count for _, _, count in audit_rows()] == [1, 99]


def test_without_redis_nobody_is_throttled_and_health_says_so(
    api: APIClient, device_a: Device, redis_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    components = api.get("/api/nats/health").json()["components"]
    assert components["throttle"] == "ok"
    redis_server.stop()
    try:
        assert statuses(wrong(api, device_a) for _ in range(30)) == [401] * 30
        components = api.get("/api/nats/health").json()["components"]
        assert (components["redis"], components["throttle"]) == ("down", "open")
    finally:
        redis_server.start()
    assert "wrong tokens are not throttled" in caplog.text
    # Coalesced all the same, by this process alone.
    assert [count for _, _, count in audit_rows()] == [1]
    coalesced._own_count._flush()
    assert [count for _, _, count in audit_rows()] == [1, 29]


@pytest.mark.usefixtures("redis_server")
def test_rows_that_cannot_be_written_are_told_later(
    device_a: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object) -> None:
        raise OperationalError("away")

    with acting(Origin("api", "", HERE)), monkeypatch.context() as patch:
        patch.setattr(coalesced, "record_events", away)
        with pytest.raises(OperationalError):
            refused_tokens.record("device token", "somewhere", None)
    assert audit_rows() == []
    coalesced.flush()
    assert audit_rows() == [("", "203.0.113.0/24", 1)]


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("203.0.113.7", "203.0.113.0/24"),
        ("::ffff:203.0.113.7", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("", "unknown"),
        ("<script>", "unknown"),
    ],
)
def test_an_address_counts_for_its_network(address: str, prefix: str) -> None:
    assert network_name(address) == prefix


def test_a_header_of_the_proxy_says_who_called(
    api: APIClient, device_a: Device, redis_server: object, settings: Settings
) -> None:
    settings.CLIENT_ADDRESS_HEADER = "X-Forwarded-For"
    settings.AUTH_FAILURE_LIMIT = 1
    unknown = Device(name="nobody")
    for forwarded, status in (("1.1.1.1, 203.0.113.7", 401), ("2.2.2.2, 203.0.113.9", 429)):
        answer = api.get(
            path(unknown), HTTP_AUTHORIZATION="Bearer no", HTTP_X_FORWARDED_FOR=forwarded
        )
        assert answer.status_code == status
