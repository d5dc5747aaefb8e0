"""Enrolment over HTTP: what the key buys, what the proof proves, what is refused."""

import base64
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django.fixtures import Settings
from rest_framework.response import Response
from rest_framework.test import APIClient

from devices.enrolment.credentials import delete_devices
from devices.inventory.archive import archive_device
from devices.models import Device
from natsbridge.identity import nkeys
from natsbridge.identity.jwt import decode_jwt
from natsbridge.identity.nkeys import KeyPair
from tenants.actions.keys import create_enrollment_key, revoke_enrollment_key
from tenants.actions.limits import set_limits
from tenants.broker.accounts import ensure_platform_keys
from tenants.models import EnrollmentKey, Group, Tenant, User

URL = "/api/nats/agent/register"


@pytest.fixture(autouse=True)
def platform_keys(db: None) -> None:
    ensure_platform_keys()


@pytest.fixture
def key(group_a: Group) -> str:
    _, plain = create_enrollment_key(group_a, name="office", max_uses=2)
    return plain


@pytest.fixture
def staff(db: None) -> User:
    return User.objects.create_superuser("root")


@pytest.fixture
def pair() -> KeyPair:
    return nkeys.generate("user")


def body(group: Group, key: str, pair: KeyPair, **changes: Any) -> dict[str, Any]:
    return {
        "groupuuid": str(group.pk),
        "devicename": "anna-laptop",
        "enrollment_key": key,
        "nkey_public": pair.public,
        "hardwareinfo": {"cpu": "x"},
    } | changes


def signed(group: Group, pair: KeyPair, timestamp: int | None = None) -> dict[str, Any]:
    moment = int(time.time()) if timestamp is None else timestamp
    text = f"enroll:{group.pk}:{pair.public}:{moment}".encode()
    signature = base64.urlsafe_b64encode(nkeys.sign(pair.seed, text)).decode()
    return {"timestamp": moment, "signature": signature}


def register(api: APIClient, body: dict[str, Any]) -> Response:
    return api.post(URL, body, format="json")


def test_a_new_key_pair_becomes_a_device(
    api: APIClient, group_a: Group, key: str, pair: KeyPair
) -> None:
    answer = register(api, body(group_a, key, pair))
    assert answer.status_code == 201
    device = Device.objects.get()
    assert answer.json()["deviceuuid"] == str(device.pk)
    assert answer.json()["tenant_uuid"] == str(group_a.tenant_id)
    assert device.tenant_id == group_a.tenant_id
    jwt = decode_jwt(answer.json()["nats_credentials"]["jwt"])
    assert (jwt["name"], jwt["sub"]) == (str(device.pk), pair.public)
    assert jwt["exp"] - jwt["iat"] == 7 * 86_400


def test_the_tokens_of_a_registration_are_not_stored_in_plain_text(
    api: APIClient, group_a: Group, key: str, pair: KeyPair
) -> None:
    token = register(api, body(group_a, key, pair)).json()["device_token"]
    device = Device.objects.get()
    assert token not in str(vars(device))
    assert key not in str(vars(EnrollmentKey.objects.get()))


def test_the_same_key_pair_with_a_proof_is_the_same_device_with_a_fresh_token(
    api: APIClient, group_a: Group, key: str, pair: KeyPair
) -> None:
    first = register(api, body(group_a, key, pair)).json()
    again = register(api, body(group_a, key, pair, **signed(group_a, pair)))
    assert again.status_code == 200
    assert again.json()["deviceuuid"] == first["deviceuuid"]
    assert again.json()["device_token"] != first["device_token"]
    old = api.get(
        f"/api/nats/device/{first['deviceuuid']}/status",
        HTTP_AUTHORIZATION=f"Bearer {first['device_token']}",
    )
    assert old.status_code == 401


def test_an_archived_device_neither_enrols_again_nor_uses_its_token(
    api: APIClient, group_a: Group, key: str, pair: KeyPair
) -> None:
    first = register(api, body(group_a, key, pair)).json()
    archive_device(Device.objects.get(pk=first["deviceuuid"]), by=None)
    again = register(api, body(group_a, key, pair, **signed(group_a, pair)))
    status = api.get(
        f"/api/nats/device/{first['deviceuuid']}/status",
        HTTP_AUTHORIZATION=f"Bearer {first['device_token']}",
    )
    for answer in (again, status):
        assert answer.status_code == 403
        assert "archived" in answer.json()["detail"]


def test_the_same_key_pair_without_a_proof_is_refused(
    api: APIClient, group_a: Group, key: str, pair: KeyPair
) -> None:
    register(api, body(group_a, key, pair))
    answer = register(api, body(group_a, key, pair))
    assert answer.status_code == 409
    assert answer["Content-Type"] == "application/problem+json"
    assert Device.objects.count() == 1


def test_a_proof_that_is_wrong_old_or_no_base64_is_refused(
    api: APIClient, group_a: Group, key: str, pair: KeyPair
) -> None:
    good = signed(group_a, pair)
    other = nkeys.generate("user")
    for proof in (
        good | {"signature": signed(group_a, other)["signature"]},
        signed(group_a, pair, int(time.time()) - 301),
        good | {"signature": "not base64!"},
        good | {"signature": "QUJD"},
    ):
        answer = register(api, body(group_a, key, pair, **proof))
        assert answer.status_code == 401, answer.json()
    assert not Device.objects.exists()


def test_a_used_up_key_still_serves_an_agent_that_missed_the_first_answer(
    api: APIClient, group_a: Group, pair: KeyPair
) -> None:
    _, once = create_enrollment_key(group_a, name="once", max_uses=1)
    first = register(api, body(group_a, once, pair))
    again = register(api, body(group_a, once, pair, **signed(group_a, pair)))
    assert (first.status_code, again.status_code) == (201, 200)
    revoke_enrollment_key(EnrollmentKey.objects.get(name="once"))
    later = signed(group_a, pair, int(time.time()) + 5)
    revoked = register(api, body(group_a, once, pair, **later))
    assert (revoked.status_code, "revoked" in revoked.json()["detail"]) == (401, True)


def test_who_recorded_a_registration_and_repeats_it_gets_nothing_and_the_agent_keeps_its_token(
    api: APIClient, group_a: Group, key: str, pair: KeyPair
) -> None:
    moment = int(time.time())
    recorded = body(group_a, key, pair, **signed(group_a, pair, moment))
    registered = register(api, recorded)
    assert registered.status_code == 201
    earlier = body(group_a, key, pair, **signed(group_a, pair, moment - 1))
    for again in (recorded, earlier):
        refused = register(api, again)
        assert refused.status_code == 401
        assert f"after {moment}" in refused.json()["detail"]
    device, token = registered.json()["deviceuuid"], registered.json()["device_token"]
    path = f"/api/nats/device/{device}/status"
    assert api.get(path, HTTP_AUTHORIZATION=f"Bearer {token}").status_code == 200
    later = body(group_a, key, pair, **signed(group_a, pair, moment + 1))
    assert register(api, later).status_code == 200


def test_a_recorded_registration_does_not_bring_a_deleted_device_back(
    api: APIClient, group_a: Group, key: str, pair: KeyPair, alice: User
) -> None:
    recorded = body(group_a, key, pair, **signed(group_a, pair))
    register(api, recorded)
    delete_devices(list(Device.objects.all()), by=alice)
    assert register(api, recorded).status_code == 401
    assert not Device.objects.exists()


def test_a_signature_that_opened_nothing_is_not_used_up(
    api: APIClient, group_a: Group, key: str, pair: KeyPair
) -> None:
    proof = signed(group_a, pair)
    assert register(api, body(group_a, "wge_wrong", pair, **proof)).status_code == 401
    assert register(api, body(group_a, key, pair, **proof)).status_code == 201


@pytest.mark.django_db(transaction=True)
def test_of_one_signature_sent_many_times_at_once_one_is_taken(
    group_a: Group, key: str, pair: KeyPair
) -> None:
    sent = body(group_a, key, pair, **signed(group_a, pair))

    def once(_: int) -> int:
        try:
            return register(APIClient(), sent).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(once, range(4))) == [201, 401, 401, 401]


def test_a_tenant_with_as_many_devices_as_it_may_have_gets_no_more_and_keeps_those(
    api: APIClient, group_a: Group, alice: User, staff: User, settings: Settings
) -> None:
    settings.TENANT_MAX_DEVICES = 1
    _, key = create_enrollment_key(group_a, name="office", max_uses=None)
    pair = nkeys.generate("user")
    first = register(api, body(group_a, key, pair)).json()
    for more in ({}, {"nkey_public": nkeys.generate("user").public}):
        wanted = body(group_a, key, pair) | more
        if not more:
            del wanted["nkey_public"]
        refused = register(api, wanted)
        assert (refused.status_code, refused["Content-Type"]) == (403, "application/problem+json")
        assert "limit of devices, 1." in refused.json()["detail"]
    assert EnrollmentKey.objects.get().uses == 1, "a refusal does not use the key"
    headers = {"HTTP_AUTHORIZATION": f"Bearer {first['device_token']}"}
    path = f"/api/nats/device/{first['deviceuuid']}/credentials"
    assert api.get(path, **headers).status_code == 200
    again = register(api, body(group_a, key, pair, **signed(group_a, pair)))
    assert again.status_code == 200, "it is there already"
    set_limits(group_a.tenant, by=staff, max_devices=2)
    second = body(group_a, key, nkeys.generate("user"))
    assert register(api, second).status_code == 201
    assert register(api, body(group_a, key, nkeys.generate("user"))).status_code == 403
    set_limits(group_a.tenant, by=staff, max_devices=-1)
    assert register(api, body(group_a, key, nkeys.generate("user"))).status_code == 201


@pytest.mark.django_db(transaction=True)
def test_registrations_at_once_do_not_get_past_the_limit(
    group_a: Group, settings: Settings
) -> None:
    settings.TENANT_MAX_DEVICES = 2
    keys = [create_enrollment_key(group_a, name=name)[1] for name in "abcd"]

    def once(key: str) -> int:
        try:
            wanted = body(group_a, key, nkeys.generate("user"))
            return register(APIClient(), wanted).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(once, keys)) == [201, 201, 403, 403]


@pytest.mark.parametrize("spoil", ["wrong", "expired", "revoked", "used up", "other group"])
def test_a_key_that_is_not_good_creates_nothing_and_says_why(
    api: APIClient, group_a: Group, group_b: Group, key: str, pair: KeyPair, spoil: str
) -> None:
    row = EnrollmentKey.objects.get()
    match spoil:
        case "expired":
            EnrollmentKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        case "revoked":
            revoke_enrollment_key(row)
        case "used up":
            EnrollmentKey.objects.update(uses=2)
    answer = register(
        api,
        body(
            group_b if spoil == "other group" else group_a,
            "wge_nonsense" if spoil == "wrong" else key,
            pair,
        ),
    )
    assert answer.status_code == 401
    reason = {"other group": "wrong", "used up": "used up"}.get(spoil, spoil)
    assert reason in answer.json()["detail"]
    assert not Device.objects.exists()


def test_a_key_buys_as_many_registrations_as_it_says(
    api: APIClient, group_a: Group, key: str
) -> None:
    codes = [
        register(api, body(group_a, key, nkeys.generate("user"))).status_code for _ in range(3)
    ]
    assert codes == [201, 201, 401]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"groupuuid": "x"}, "groupuuid"),
        ({"devicename": ""}, "devicename"),
        ({"devicename": "x" * 300}, "devicename"),
        ({"nkey_public": "UNONSENSE"}, "nkey_public"),
        ({"hardwareinfo": "text"}, "hardwareinfo"),
        ({"hardwareinfo": {"a": "\0"}}, "hardwareinfo"),
        ({"signature": "abc"}, "timestamp"),
    ],
)
def test_bad_input_names_the_field(
    api: APIClient, group_a: Group, key: str, pair: KeyPair, changes: dict[str, Any], field: str
) -> None:
    answer = register(api, body(group_a, key, pair, **changes))
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"].startswith(field)


def test_what_is_not_json_is_a_problem(api: APIClient) -> None:
    answer = api.post(URL, b"{", content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["title"] == "Bad Request"


@pytest.mark.parametrize(
    "data",
    [
        b'{"hardwareinfo": {"a": 1e999}}',
        b'{"hardwareinfo": {"a": "\\ud800"}}',
        b'{"a":' + b"[" * 50_000,
    ],
)
def test_json_that_nothing_can_store_is_a_problem_and_no_error_of_ours(
    api: APIClient, data: bytes
) -> None:
    answer = api.post(URL, data, content_type="application/json")
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.django_db(transaction=True)
def test_two_registrations_of_one_key_pair_at_once_make_one_device(
    group_a: Group, key: str, pair: KeyPair
) -> None:
    def once(_: int) -> int:
        try:
            return register(APIClient(), body(group_a, key, pair)).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        codes = sorted(threads.map(once, range(4)))
    assert codes == [201, 409, 409, 409]
    assert Device.objects.count() == 1


def test_an_unknown_group_is_as_good_as_a_wrong_key(
    api: APIClient, tenant_a: Tenant, group_a: Group, key: str, pair: KeyPair
) -> None:
    answer = register(api, body(group_a, key, pair, groupuuid=str(uuid.uuid4())))
    assert answer.status_code == 401
