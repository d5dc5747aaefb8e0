"""The agent's configuration, restarting it, moving it to NATS by GET, and a command to all."""

import json
from typing import Any
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from devices.enrolment.actions import record_existing
from devices.models import BulkCommand, Command, Device
from natsbridge.identity import nkeys
from tenants.broker.accounts import ensure_platform_keys
from tenants.models import Credential, Group, Role, Tenant, User, hash_token
from tests.support.people import Enrolled, authorization, enrol, person

pytestmark = pytest.mark.usefixtures("redis_server")


@pytest.fixture
def enrolled(group_a: Group) -> Enrolled:
    ensure_platform_keys()
    return enrol(group_a, "anna-laptop")


@pytest.fixture
def oscar(tenant_a: Tenant) -> User:
    return person("oscar", tenant_a, Role.OPERATOR)


def agent(device: Device, what: str) -> str:
    return f"/api/nats/agent/{device.pk}/{what}"


def test_the_configuration_says_where_an_agent_connects_and_holds_no_secret(
    api: APIClient, enrolled: Enrolled, bob: User
) -> None:
    device = enrolled.device
    answer = api.get(agent(device, "config"), **enrolled.authorization)
    assert answer.json() == api.get(agent(device, "config"), **authorization(bob)).json()
    config = answer.json()["config"]
    nats = config.pop("nats_config")
    assert config == {
        "device_uuid": str(device.pk),
        "tenant_uuid": str(device.tenant_id),
        "device_name": "anna-laptop",
        "group_uuid": str(device.group_id),
        "org_uuid": str(device.group.organisation_id),
        "flask_endpoints": {
            "heartbeat": f"http://testserver/api/nats/device/{device.pk}/heartbeat",
            "status": f"http://testserver/api/nats/device/{device.pk}/status",
        },
    }
    where = api.get(f"/api/nats/device/{device.pk}/tenant", **enrolled.authorization).json()
    assert set(nats["subjects"]) == {
        *("heartbeat", "commands", "responses", "status", "monitoring", "sysinfo", "metrics")
    }
    assert nats == {
        "server_url": where["nats_url"],
        "servers": where["nats_urls"],
        "username": f"device_{device.pk}",
        "inbox_prefix": where["inbox_prefix"],
        "subjects": where["subjects"],
    }
    assert enrolled.token not in json.dumps(answer.json())
    for endpoint in config["flask_endpoints"].values():
        method = api.post if endpoint.endswith("heartbeat") else api.get
        assert method(endpoint, **enrolled.authorization).status_code == 200


def test_only_the_device_and_its_tenant_read_its_configuration(
    api: APIClient, enrolled: Enrolled, group_a: Group, charlie: User
) -> None:
    path = agent(enrolled.device, "config")
    assert api.get(path, **authorization(charlie)).status_code == 404
    assert api.get(path, **enrol(group_a, "sibling").authorization).status_code == 404
    assert api.get(path).status_code == 401


def test_an_operator_restarts_an_agent_by_a_command(
    api: APIClient, enrolled: Enrolled, oscar: User
) -> None:
    headers = authorization(oscar) | {"HTTP_IDEMPOTENCY_KEY": "once"}
    answers = [api.post(agent(enrolled.device, "restart"), {}, "json", **headers) for _ in range(2)]
    row = Command.objects.get()
    assert (row.command, row.parameters, row.created_by) == ("restart", {}, oscar)
    assert [answer.status_code for answer in answers] == [202, 200]
    assert answers[0].json() == {
        "success": True,
        "command_id": str(row.uuid),
        "status_url": f"http://testserver/api/nats/command/{row.uuid}",
    }


def test_others_restart_no_agent(
    api: APIClient, enrolled: Enrolled, bob: User, charlie: User, oscar: User
) -> None:
    path = agent(enrolled.device, "restart")
    assert api.post(path, **authorization(bob)).status_code == 403
    assert api.post(path, **authorization(oscar, Role.VIEWER)).status_code == 403
    assert api.post(path, **authorization(charlie)).status_code == 404
    assert api.post(path, **enrolled.authorization).status_code == 403
    assert api.post(path).status_code == 401
    refused = api.post(path, {"command": "format"}, "json", **authorization(oscar))
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "command")
    assert not Command.objects.exists()


class TestUpgradeByGet:
    @pytest.fixture
    def old(self, group_a: Group) -> Device:
        ensure_platform_keys()
        return record_existing(group_a, "old", by=None)

    def test_answers_as_post_does(self, api: APIClient, old: Device, alice: User) -> None:
        key = nkeys.generate("user").public
        answer = api.get(
            agent(old, "upgrade"), {"nkey_public": key, "other": "1"}, **authorization(alice)
        )
        assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")
        posted = api.post(
            agent(old, "upgrade"), {"nkey_public": key}, "json", **authorization(alice)
        )
        assert shape(answer.json()) == shape(posted.json())
        assert posted["Cache-Control"] == "no-store"
        assert answer.json()["nats_credentials"]["jwt"]
        # The token that the first answer had is the device's no more.
        old_token = {"HTTP_AUTHORIZATION": f"Bearer {answer.json()['device_token']}"}
        assert api.get(agent(old, "upgrade"), **old_token).status_code == 401
        token = {"HTTP_AUTHORIZATION": f"Bearer {posted.json()['device_token']}"}
        own = api.get(agent(old, "upgrade"), **token)
        assert (own.status_code, "device_token" in own.json()) == (200, False)
        assert own.json()["nats_credentials"]["username"] == f"device_{old.pk}"

    def test_is_for_admins_and_the_device(
        self, api: APIClient, old: Device, bob: User, oscar: User, charlie: User, alice: User
    ) -> None:
        path = agent(old, "upgrade")
        for who, status in ((bob, 403), (oscar, 403), (charlie, 404)):
            assert api.get(path, **authorization(who)).status_code == status
        assert api.get(path).status_code == 401
        wrong = api.get(path, {"nkey_public": "no key"}, **authorization(alice))
        assert wrong.status_code == 400
        assert not Credential.objects.filter(device_uuid=old.pk).exists()

    def test_is_not_opened_by_a_session(self, old: Device, alice: User) -> None:
        """A page elsewhere could make the browser ask for it."""
        logged_in = APIClient()
        logged_in.force_login(alice)
        assert logged_in.get(agent(old, "upgrade")).status_code == 401

    def test_like_the_credentials_does_nothing_for_head(
        self, api: APIClient, old: Device, alice: User
    ) -> None:
        assert api.head(agent(old, "upgrade"), **authorization(alice)).status_code == 405
        Device.objects.filter(pk=old.pk).update(token_digest=hash_token("token"))
        credentials = f"/api/nats/device/{old.pk}/credentials"
        assert api.head(credentials, HTTP_AUTHORIZATION="Bearer token").status_code == 405
        assert not Credential.objects.filter(device_uuid=old.pk).exists()


def shape(answer: Any) -> Any:
    return {name: shape(each) for name, each in answer.items()} if isinstance(answer, dict) else ""


def broadcast(tenant: Tenant) -> str:
    return f"/api/nats/tenant/{tenant.pk}/agents/broadcast"


def test_a_broadcast_is_a_bulk_command_to_every_device_of_the_tenant(
    api: APIClient, enrolled: Enrolled, group_a: Group, device_b: Device, oscar: User
) -> None:
    enrol(group_a, "sibling")
    body = {"command": "ping", "parameters": {"n": 1}, "deadline": "7d"}
    headers = authorization(oscar) | {"HTTP_IDEMPOTENCY_KEY": "once"}
    path = broadcast(group_a.tenant)
    answer = api.post(path, body, "json", **headers)
    row = BulkCommand.objects.get()
    assert (answer.status_code, answer.json()) == (
        202,
        {
            "success": True,
            "bulk_id": str(row.uuid),
            "status_url": f"http://testserver/api/nats/commands/{row.uuid}",
            "total": 2,
            "left_out": {},
        },
    )
    assert (row.target, row.created_by) == ("all devices of Acme", oscar)
    assert not Command.objects.filter(device=device_b).exists()
    again = api.post(path, body, "json", **headers)
    assert (again.status_code, again.json()) == (200, answer.json())


def test_others_broadcast_nothing(
    api: APIClient, enrolled: Enrolled, tenant_a: Tenant, bob: User, charlie: User, oscar: User
) -> None:
    body, path = {"command": "ping"}, broadcast(tenant_a)
    assert api.post(path, body, "json", **authorization(bob)).status_code == 403
    assert api.post(path, body, "json", **authorization(oscar, Role.VIEWER)).status_code == 403
    assert api.post(path, body, "json", **enrolled.authorization).status_code == 403
    assert api.post(path, body, "json").status_code == 401
    unknown = path.replace(str(tenant_a.pk), str(uuid4()))
    foreign = api.post(path, body, "json", **authorization(charlie))
    missing = api.post(unknown, body, "json", **authorization(charlie))
    assert (foreign.status_code, foreign.json()["type"]) == (404, missing.json()["type"])
    assert not BulkCommand.objects.exists()


@pytest.mark.parametrize(
    "body",
    [{}, [], {"command": "a b"}, {"command": "ping", "group": str(uuid4())}, {"command": None}],
)
def test_a_broadcast_that_is_none_is_refused(
    api: APIClient, enrolled: Enrolled, tenant_a: Tenant, oscar: User, body: Any
) -> None:
    answer = api.post(broadcast(tenant_a), body, "json", **authorization(oscar))
    assert answer.status_code == 400
    assert not BulkCommand.objects.exists()
