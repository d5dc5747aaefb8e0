"""How often callers may ask: each for itself, all together, and nobody limited without Redis."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.http import HttpResponse
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from devices.models import Device
from natsbridge.redis import client
from tenants.models import Group, User
from tenants.throttle import requests
from tenants.throttle.requests import Excess, excess
from tests.support.people import Enrolled, authorization, enrol

HEALTH = "/api/nats/health"


@pytest.fixture
def enrolled(group_a: Group) -> Enrolled:
    return enrol(group_a, "anna-laptop")


def status(device: Device) -> str:
    return f"/api/nats/device/{device.pk}/status"


def assert_throttled(answer: HttpResponse, kind: str, limit: str) -> None:
    problem: Any = answer.json()  # type: ignore[attr-defined]
    assert (answer.status_code, problem["type"]) == (429, "throttled")
    assert answer["Content-Type"] == "application/problem+json"
    assert f"of this {kind}: it may make {limit} a minute" in problem["detail"]
    assert 1 <= int(answer["Retry-After"]) <= 60


@pytest.mark.usefixtures("redis_server")
def test_a_token_is_throttled_and_another_of_the_same_person_is_not(
    api: APIClient, device_a: Device, alice: User, settings: Settings
) -> None:
    settings.TOKEN_REQUESTS_PER_MINUTE = 3
    token, other = authorization(alice), authorization(alice)
    codes = [api.get(status(device_a), **token).status_code for _ in range(3)]
    assert codes == [200] * 3
    assert_throttled(api.get(status(device_a), **token), "token", "3")
    assert api.get(status(device_a), **other).status_code == 200


@pytest.mark.usefixtures("redis_server")
def test_a_person_is_throttled_over_all_tokens_and_a_colleague_is_not(
    api: APIClient, device_a: Device, alice: User, bob: User, settings: Settings
) -> None:
    settings.PERSON_REQUESTS_PER_MINUTE = 2
    for _ in range(2):
        assert api.get(status(device_a), **authorization(alice)).status_code == 200
    assert_throttled(api.get(status(device_a), **authorization(alice)), "person", "2")
    assert api.get(status(device_a), **authorization(bob)).status_code == 200


@pytest.mark.usefixtures("redis_server")
def test_a_device_is_throttled_and_its_neighbour_behind_the_same_address_is_not(
    api: APIClient, group_a: Group, enrolled: Enrolled, settings: Settings
) -> None:
    settings.DEVICE_REQUESTS_PER_MINUTE = 2
    neighbour = enrol(group_a, "berta-laptop")
    for _ in range(2):
        assert api.get(status(enrolled.device), **enrolled.authorization).status_code == 200
    throttled = api.get(status(enrolled.device), **enrolled.authorization)
    assert_throttled(throttled, "device", "2")
    assert api.get(status(neighbour.device), **neighbour.authorization).status_code == 200


@pytest.mark.usefixtures("redis_server")
def test_an_address_is_throttled_for_all_its_callers_and_another_is_not(
    api: APIClient, enrolled: Enrolled, settings: Settings
) -> None:
    settings.ADDRESS_REQUESTS_PER_MINUTE = 2
    here, elsewhere = {"REMOTE_ADDR": "203.0.113.7"}, {"REMOTE_ADDR": "203.0.113.8"}
    assert api.get(HEALTH, **here).status_code != 429
    assert api.post("/api/nats/agent/register", {}, "json", **here).status_code == 400
    answer = api.get(status(enrolled.device), **enrolled.authorization, **here)
    assert_throttled(answer, "address", "2")
    assert api.get(HEALTH, **elsewhere).status_code != 429


@pytest.mark.usefixtures("redis_server")
def test_ten_thousand_agents_behind_one_address_come_back_at_once(settings: Settings) -> None:
    """With the defaults: each fetches its credentials, asks for its tenant, and reports."""
    limits = [
        {
            "address 203.0.113.7": settings.ADDRESS_REQUESTS_PER_MINUTE,
            f"device {number}": settings.DEVICE_REQUESTS_PER_MINUTE,
        }
        for number in range(10_000)
    ]
    with ThreadPoolExecutor(4) as threads:
        assert not any(threads.map(excess, limits * 3))


@pytest.mark.usefixtures("redis_server")
def test_a_bucket_fills_up_evenly_and_a_refused_request_takes_from_none() -> None:
    assert [excess({"a": 2, "b": 3}) for _ in range(2)] == [None, None]
    refused = excess({"a": 2, "b": 3})
    assert refused == Excess("a", 30)
    assert excess({"b": 3}) is None, "the refused one has taken nothing"
    assert excess({"b": 3}) == Excess("b", 20)
    # As if a minute had passed.
    redis = client(requests.settings.REDIS_URL)
    for name in "ab":
        redis.set(f"{requests.PREFIX}:{name}", time.time())
    assert [excess({"a": 2, "b": 3}) for _ in range(2)] == [None, None]
    assert redis.ttl(f"{requests.PREFIX}:a") <= 61


@pytest.mark.usefixtures("redis_server")
def test_of_requests_at_once_no_more_than_the_limit_are_admitted() -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: excess({"a": 50}), range(200)))
    # One more for each 1.2 s that the machine took.
    assert 50 <= found.count(None) < 150


def test_without_redis_nobody_is_limited(
    api: APIClient, device_a: Device, alice: User, settings: Settings
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    settings.TOKEN_REQUESTS_PER_MINUTE = 1
    token = authorization(alice)
    codes = [api.get(status(device_a), **token).status_code for _ in range(4)]
    assert codes == [200] * 4


@pytest.mark.usefixtures("redis_server")
def test_a_limit_of_none_limits_nobody() -> None:
    assert [excess({"a": 0}) for _ in range(3)] == [None] * 3
