"""What is another tenant's is answered to the letter as what does not exist; CSRF is refused."""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from devices.models import Device
from natsbridge.subscriber import status as status_row
from tenants.actions.keys import create_enrollment_key
from tenants.models import AuditEntry, Group
from tests.suites.attacks.requests import FIELDS, FILTERS, Foreign
from tests.suites.permissions.table import BODIES, MATRIX
from tests.suites.permissions.world import World, build
from tests.support.people import enrol

ADDRESSES = tuple(
    Foreign(endpoint, BODIES.get(endpoint, {}))
    for endpoint, statuses in MATRIX.items()
    if statuses["outsider"] == 404
)


@pytest.fixture
def world(group_a: Group, group_b: Group, redis_server: object) -> World:
    world = build(group_a, group_b)
    _, key = create_enrollment_key(group_b, name="mine")
    device = enrol(group_b, "own").device
    own = {"own_tenant": group_b.tenant_id, "own_device": device.pk, "own_key": key}
    world.ids |= {name: str(value) for name, value in own.items()}
    status_row.beat("test", started_at=timezone.now(), connected=True, details={})
    return world


def answered(attack: Foreign, ids: Mapping[str, str], headers: dict[str, str]) -> tuple[int, str]:
    """Return the status and the text, in which the ids have their names."""
    method, path = attack.endpoint.format(**ids).split()
    body = json.loads(_filled(json.dumps(attack.body), ids)) if attack.body else None
    sent: dict[str, Any] = {"format": "json"} if method != "GET" else {}
    answer = getattr(APIClient(), method.lower())(path, body, **sent, **headers)
    text = answer.content.decode()
    for name, value in ids.items():
        text = text.replace(value, f"<{name}>") if len(value) > 30 else text
    return answer.status_code, text


def _filled(text: str, ids: Mapping[str, str]) -> str:
    for name, value in ids.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _unknown(ids: Mapping[str, str]) -> dict[str, str]:
    """Return ids of the same kind, of which nothing exists; the attacker's own stay."""
    made: dict[str, str] = {}
    for name, value in ids.items():
        known = name.startswith("own_") or not _is_uuid(value)
        # Some names are of one thing.
        made[name] = (
            value
            if known
            else next((made[other] for other in made if ids[other] == value), str(uuid4()))
        )
    return made


def _is_uuid(text: str) -> bool:
    try:
        return bool(UUID(text))
    except ValueError:
        return False


@pytest.mark.parametrize("attacks", [FIELDS, FILTERS, ADDRESSES], ids=["field", "filter", "path"])
def test_what_is_another_tenants_cannot_be_told_from_what_does_not_exist(
    world: World, attacks: Iterable[Foreign]
) -> None:
    outsider, unknown = world.callers["outsider"], _unknown(world.ids)
    before = Device.objects.count()
    for attack in attacks:
        status, told = answered(attack, world.ids, outsider)
        assert (status, told) == answered(attack, unknown, outsider), attack
        # A list that filters by nothing would answer the attacker's own, and no error.
        assert status in (400, 401, 403, 404), attack
        for secret in ("Acme", "Laptops", "sibling"):
            assert secret not in told, attack
    assert Device.objects.count() == before
    assert not AuditEntry.objects.filter(action="command.issued", actor="outsider").exists()


def test_a_session_without_a_csrf_token_changes_nothing(world: World) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(world.people["admin"])
    for endpoint, statuses in MATRIX.items():
        if endpoint.startswith("GET ") or statuses["nobody"] < 400:
            continue
        method, path = endpoint.format(**world.ids).split()
        answer = browser.generic(method, path, "{}", content_type="application/json")
        assert answer.status_code == (401 if "/api/nats/" in endpoint else 403), endpoint
