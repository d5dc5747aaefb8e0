"""Bodies that nobody needs, sent to every endpoint that takes one."""

from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import URLPattern

from devices.api.nats.urls import urlpatterns as of_devices
from devices.models import Device
from tenants.api.nats.urls import urlpatterns as of_tenants
from tenants.models import Role, User
from tests.support.people import authorization

DEEP = 100_000
FIELDS = (
    *(b"command", b"parameters", b"devices", b"filter", b"reason", b"groupuuid", b"devicename"),
    *(b"enrollment_key", b"hardwareinfo", b"nkey_public", b"overlap", b"kind"),
)
BODIES = {
    "deep list": b"[" * DEEP + b"]" * DEEP,
    "deep object": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep in every field": b"{%s}"
    % b",".join(b'"%s": %s%s' % (name, b"[" * 900, b"]" * 900) for name in FIELDS),
    "a number of 5,000 digits": b'{"parameters": ' + b"9" * 5000 + b"}",
    "no UTF-8": b'{"command": "\xff"}',
    "half a surrogate": b'{"command": "\\ud800", "devicename": "\\ud800", "reason": "\\ud800"}',
    "NUL": b'{"command": "\\u0000", "devicename": "\\u0000", "reason": "\\u0000"}',
    "a list": b"[1, 2]",
    "a text": b'"x"',
    "a number": b"1",
    "nothing": b"",
    "NaN": b'{"parameters": NaN, "overlap": Infinity}',
    "100,000 fields": b"{%s}" % b",".join(b'"%d": 1' % number for number in range(100_000)),
    "50,000 devices": b'{"command": "ping", "devices": [%s]}' % b",".join([b'"x"'] * 50_000),
}
# The query's answers need it.
pytestmark = pytest.mark.usefixtures("redis_server")
KINDS = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x")


@pytest.fixture
def admin(alice: User) -> dict[str, str]:
    return authorization(alice, Role.ADMIN)


def endpoints(device: Device) -> Iterator[tuple[str, str]]:
    """Each method that may have a body, and its path."""
    for pattern in of_tenants + of_devices:
        assert isinstance(pattern, URLPattern)
        path = str(pattern.pattern)
        for converter in ("uuid:uuid", "uuid:device_uuid"):
            of = device.tenant_id if path.startswith("tenant/") else device.pk
            path = path.replace(f"<{converter}>", str(of))
        path = path.replace("<int:credential_id>", "1").replace("<path:rest>", "nothing")
        view = pattern.callback.view_class  # type: ignore[attr-defined]
        for method in ("post", "put", "patch", "delete"):
            if hasattr(view, method):
                yield method, f"/api/nats/{path}"


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_makes_no_sense_gets_a_short_answer_from_each_endpoint(
    client: Client, device_a: Device, admin: dict[str, str], body: str
) -> None:
    asked = list(endpoints(device_a))
    assert len(asked) > 15
    for method, path in asked:
        send = getattr(client, method)
        answer = send(path, BODIES[body], content_type="application/json", **admin)
        assert answer.status_code < 500, path
        assert len(answer.content) < 6000, path


@pytest.mark.parametrize("body", [name for name in BODIES if name.startswith(("deep", "no UTF"))])
@pytest.mark.parametrize("path", ["agent/register", "commands", "commands/preview"])
def test_json_that_cannot_be_read_gets_400_and_says_why(
    client: Client, admin: dict[str, str], path: str, body: str
) -> None:
    answer = client.post(
        f"/api/nats/{path}", BODIES[body], content_type="application/json", **admin
    )
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["detail"]


def test_of_many_wrong_items_the_first_are_named(client: Client, admin: dict[str, str]) -> None:
    body = {"command": "ping", "devices": ["x"] * 10_000}
    answer = client.post("/api/nats/commands", body, content_type="application/json", **admin)
    assert len(answer.json()["errors"]) == 20
    assert answer.json()["detail"].endswith("there are more errors; correct these first")


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_that_is_not_json_gets_415(
    client: Client, device_a: Device, admin: dict[str, str], kind: str
) -> None:
    own, tenant = f"device/{device_a.pk}", f"tenant/{device_a.tenant_id}"
    for path in (
        *("agent/register", f"agent/{device_a.pk}/upgrade", "commands", "commands/preview"),
        *(f"{own}/command", f"{own}/revoke", f"{own}/rotate", f"{tenant}/credentials"),
    ):
        answer = client.post(f"/api/nats/{path}", b'{"x": 1}', content_type=kind, **admin)
        assert answer.status_code == 415, path
        assert answer["Content-Type"] == "application/problem+json"


QUERIES = (
    "limit=1000000",
    "limit=" + "9" * 5000,
    "cursor=" + "9" * 5000,
    "since=1e999",
    "since=nan",
    "since=" + "9" * 300,
    "metric=" + "x" * 5000,
    "&".join(["limit=1"] * 1500),
    "&".join(f"a{number}=1" for number in range(1500)),
    "actor=%00",
    "device=%00",
    "format=%00",
)


def test_a_query_that_makes_no_sense_gets_no_5xx(
    client: Client, device_a: Device, admin: dict[str, str]
) -> None:
    own, tenant = f"/api/nats/device/{device_a.pk}", f"/api/nats/tenant/{device_a.tenant_id}"
    for path in (
        *(f"{own}/status", f"{own}/metrics/recent", f"{own}/credentials/history"),
        *(f"{tenant}/audit", f"{tenant}/audit/export", f"{tenant}/credentials"),
    ):
        for query in QUERIES:
            assert client.get(f"{path}?{query}", **admin).status_code < 500, query


PAGE_QUERIES = (
    *("page=" + "9" * 5000, "page=-1", "q=" + "x" * 5000, "q=%00", "sort=%00", "tenant=%00"),
    *("before=" + "9" * 5000, "since=9999999999-01-01", "actor=%00", "target=devices&device=%00"),
    "target=devices&" + "&".join(["device=00000000-0000-0000-0000-000000000000"] * 3000),
    "&".join(f"status={number}" for number in range(900)),
)


@pytest.mark.parametrize("path", ["/", "/audit/", "/audit/export/", "/commands/", "/commands/new/"])
def test_a_page_answers_such_a_query_too(
    client: Client, device_a: Device, alice: User, path: str
) -> None:
    client.force_login(alice)
    for query in PAGE_QUERIES:
        assert client.get(f"{path}?{query}").status_code < 500, query
