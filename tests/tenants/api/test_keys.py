"""Enrolment keys and own tokens as resources: a secret is shown once, and to nobody else."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from tenants.actions.keys import create_api_token, create_enrollment_key
from tenants.models import Action, ApiToken, AuditEntry, EnrollmentKey, Group, Role, User
from tests.support.people import person
from tests.tenants.api.support import caller, results, wrong_fields

KEYS, TOKENS = "/api/enrolment-keys", "/api/tokens"


def tomorrow() -> str:
    return (timezone.now() + timedelta(days=1)).isoformat()


def test_an_admin_creates_lists_and_ends_an_enrolment_key(
    api: APIClient, group_a: Group, alice: User
) -> None:
    admin = caller(alice)
    body = {"group": str(group_a.pk), "name": "office", "max_uses": 2, "expires_at": tomorrow()}
    created = admin.post(KEYS, body, "json")
    assert (created.status_code, created["Cache-Control"]) == (201, "no-store")
    key = created.json().pop("enrollment_key")
    registration = {"groupuuid": str(group_a.pk), "devicename": "new", "enrollment_key": key}
    assert api.post("/api/nats/agent/register", registration, "json").status_code == 201
    [shown] = results(admin.get(KEYS))
    assert (shown["hint"], shown["uses"], shown["max_uses"]) == (key[:12], 1, 2)
    assert (shown["created_by"], shown["tenant"]) == ("alice", str(group_a.tenant_id))
    assert shown["refusal"] == ""
    address = f"{KEYS}/{shown['id']}"
    for answer in (admin.get(KEYS), admin.get(address)):
        assert key not in answer.content.decode()
    assert admin.delete(address).status_code == 204
    assert admin.get(address).json()["refusal"] == "The enrolment key was revoked."
    assert api.post("/api/nats/agent/register", registration, "json").status_code == 401
    told = AuditEntry.objects.filter(actor="alice", action__startswith="enrolment_key.")
    assert list(told.order_by("id").values_list("action", flat=True)) == [
        Action.ENROLMENT_KEY_CREATED,
        Action.ENROLMENT_KEY_REVOKED,
    ]


def test_enrolment_keys_are_for_admins_of_their_tenant(
    group_a: Group, group_b: Group, alice: User, bob: User, charlie: User
) -> None:
    key, _ = create_enrollment_key(group_a, name="office")
    address, body = f"{KEYS}/{key.pk}", {"group": str(group_a.pk), "name": "office"}
    operator = person("otto", group_a.tenant, Role.OPERATOR)
    for weak in (caller(bob), caller(operator), caller(alice, Role.OPERATOR)):
        assert weak.get(KEYS).status_code == 403
        assert weak.get(address).status_code == 403
        assert weak.post(KEYS, body, "json").status_code == 403
        assert weak.delete(address).status_code == 403
    outsider = caller(charlie)
    assert results(outsider.get(KEYS)) == []
    assert outsider.get(address).status_code == 404
    assert outsider.delete(address).status_code == 404
    assert wrong_fields(outsider.post(KEYS, body, "json")) == {"group"}
    assert wrong_fields(outsider.get(KEYS, {"group": group_a.pk})) == {"group"}
    assert EnrollmentKey.objects.get().revoked_at is None


def test_a_key_is_of_one_use_unless_it_says_otherwise(group_a: Group, alice: User) -> None:
    admin, body = caller(alice), {"group": str(group_a.pk), "name": "office"}
    assert admin.post(KEYS, body, "json").json()["max_uses"] == 1
    assert admin.post(KEYS, body | {"max_uses": None}, "json").json()["max_uses"] is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"max_uses": 0}, "max_uses"),
        ({"max_uses": 2**31}, "max_uses"),
        ({"max_uses": "many"}, "max_uses"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59Z"}, "expires_at"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"group": None}, "group"),
        ({"hint": "wge_"}, "hint"),
        ({"tenant": "x"}, "tenant"),
        ({"enrollment_key": "mine"}, "enrollment_key"),
    ],
)
def test_what_is_wrong_in_a_key_is_named(
    group_a: Group, alice: User, change: dict[str, Any], field: str
) -> None:
    body = {"group": str(group_a.pk), "name": "office"} | change
    assert wrong_fields(caller(alice).post(KEYS, body, "json")) == {field}
    assert not EnrollmentKey.objects.exists()


def test_people_create_list_and_revoke_their_own_tokens(api: APIClient, bob: User) -> None:
    own = caller(bob)
    body = {"name": "script", "role": "viewer", "expires_at": tomorrow()}
    created = own.post(TOKENS, body, "json")
    assert (created.status_code, created["Cache-Control"]) == (201, "no-store")
    plain = created.json()["token"]
    header = {"HTTP_AUTHORIZATION": f"Token {plain}"}
    assert api.get(TOKENS, **header).status_code == 200
    assert plain not in own.get(TOKENS).content.decode()
    address = f"{TOKENS}/{created.json()['id']}"
    assert own.get(address).json()["hint"] == plain[: len(own.get(address).json()["hint"])]
    assert own.delete(address).status_code == 204
    assert api.get(TOKENS, **header).status_code == 401
    told = AuditEntry.objects.filter(actor="bob", action=Action.API_TOKEN_REVOKED)
    assert told.count() == 1


def test_nobody_reaches_the_token_of_somebody_else(alice: User, bob: User) -> None:
    token, _ = create_api_token(bob, name="bob's", role=Role.VIEWER, expires_at=None)
    admin = caller(alice)
    assert [each["name"] for each in results(admin.get(TOKENS))] == ["test"]
    assert admin.get(f"{TOKENS}/{token.pk}").status_code == 404
    assert admin.delete(f"{TOKENS}/{token.pk}").status_code == 404
    assert admin.get(f"{TOKENS}/%00").status_code == 404
    assert ApiToken.objects.filter(pk=token.pk).exists()


def test_a_weak_token_makes_no_stronger_one(alice: User) -> None:
    body = {"name": "script", "role": "admin", "expires_at": None}
    for role in (Role.VIEWER, Role.OPERATOR):
        weak = caller(alice, role)
        assert weak.post(TOKENS, body, "json").status_code == 403
        assert weak.delete(f"{TOKENS}/{ApiToken.objects.latest('created').pk}").status_code == 403


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"role": "chief"}, "role"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"user": 1}, "user"),
        ({"token": "wgw_mine"}, "token"),
    ],
)
def test_what_is_wrong_in_a_token_is_named(bob: User, change: dict[str, Any], field: str) -> None:
    body = {"name": "script", "role": "viewer", "expires_at": None} | change
    assert wrong_fields(caller(bob).post(TOKENS, body, "json")) == {field}
