import base64
import json
from typing import Any
from uuid import UUID

import nkeys as library
import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsbridge.errors import InvalidClaims
from natsbridge.identity import claims, nkeys
from natsbridge.identity.claims import AccountLimits, TenantAccount
from natsbridge.identity.jwt import credentials_file, decode_jwt
from natsbridge.identity.nkeys import KeyPair

TENANT = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
DEVICE = UUID("7c9e6679-7425-40de-944b-e07fc1f90ae7")
OPERATOR = nkeys.generate("operator")
PLATFORM, ACCOUNT, DEVICE_KEY, TENANT_KEY = (nkeys.generate("account") for _ in range(4))
USER = nkeys.generate("user")


def tenant_claims(**changes: Any) -> dict[str, Any]:
    account = TenantAccount(
        public=ACCOUNT.public,
        tenant=TENANT,
        platform_account=PLATFORM.public,
        device_key=DEVICE_KEY.public,
        tenant_key=TENANT_KEY.public,
        **changes,
    )
    nats: dict[str, Any] = decode_jwt(
        claims.tenant_account_jwt(OPERATOR, account, issued_at=1_000)
    )["nats"]
    return nats


@pytest.mark.parametrize(("kind", "prefix"), [("operator", "O"), ("account", "A"), ("user", "U")])
def test_a_generated_key_is_one_that_the_reference_library_knows(kind: Any, prefix: str) -> None:
    pair = nkeys.generate(kind)
    assert pair.public.startswith(prefix)
    assert pair.seed.startswith("S" + prefix)
    assert library.from_seed(pair.seed.encode()).public_key.decode() == pair.public
    assert nkeys.public_of(pair.seed) == pair.public


def test_two_generated_keys_differ() -> None:
    assert nkeys.generate("user") != nkeys.generate("user")


def test_a_seed_is_not_shown() -> None:
    assert USER.seed not in repr(USER)
    assert USER.public in repr(USER)


@pytest.mark.parametrize(
    "seed",
    ["", "S", USER.public, USER.seed[:-1], USER.seed.lower(), "é", USER.seed[:20] + "A" * 38],
    ids=["empty", "prefix", "public key", "cut", "lower case", "not ASCII", "wrong checksum"],
)
def test_text_that_is_not_a_seed_is_refused_without_being_shown(seed: str) -> None:
    with pytest.raises(InvalidClaims) as refusal:
        nkeys.public_of(seed)
    assert not seed or seed not in str(refusal.value)


def test_a_public_user_key_is_known_by_prefix_length_and_checksum() -> None:
    assert nkeys.is_public_user_key(USER.public)
    last = "A" if USER.public[-1] != "A" else "B"
    for wrong in (
        ACCOUNT.public,
        USER.seed,
        USER.public[:-1] + last,
        USER.public[:-1],
        USER.public + "A",
        USER.public.lower(),
        "",
        "U" * 56,
        "é" * 56,
        f"{USER.public}\n",
    ):
        assert not nkeys.is_public_user_key(wrong), wrong


@given(st.binary())
def test_a_signature_holds_for_its_key_and_its_data_only(data: bytes) -> None:
    signature = nkeys.sign(USER.seed, data)
    assert nkeys.verify(USER.public, data, signature)
    assert not nkeys.verify(USER.public, data + b"x", signature)
    assert not nkeys.verify(ACCOUNT.public, data, signature)
    assert not nkeys.verify(USER.public, data, signature[:-1])
    assert not nkeys.verify(USER.public, data, b"")
    assert not nkeys.verify("U", data, signature)


def test_a_jwt_is_read_back_and_says_who_signed_it_for_whom_and_when() -> None:
    jwt = claims.device_user_jwt(
        DEVICE_KEY,
        account=ACCOUNT.public,
        device=DEVICE,
        user_public=USER.public,
        issued_at=1_000,
        expires_at=2_000,
    )
    body = decode_jwt(jwt)
    assert body.pop("jti")
    assert body == {
        "iss": DEVICE_KEY.public,
        "sub": USER.public,
        "name": str(DEVICE),
        "iat": 1_000,
        "exp": 2_000,
        "nats": {
            "type": "user",
            "version": 2,
            "issuer_account": ACCOUNT.public,
            "pub": {},
            "sub": {},
        },
    }


def test_two_jwts_that_say_different_things_have_different_ids() -> None:
    """A server takes claims with an id that it has for claims that it has."""

    def identifier(connections: int) -> str:
        account = TenantAccount(
            ACCOUNT.public,
            TENANT,
            PLATFORM.public,
            DEVICE_KEY.public,
            TENANT_KEY.public,
            AccountLimits(connections=connections),
        )
        jwt = claims.tenant_account_jwt(OPERATOR, account, issued_at=1_000)
        return str(decode_jwt(jwt)["jti"])

    assert identifier(1) == identifier(1)
    assert identifier(1) != identifier(2)


def altered(jwt: str, **changes: Any) -> str:
    header, payload, signature = jwt.split(".")
    body = json.loads(base64.urlsafe_b64decode(payload + "==")) | changes
    encoded = base64.urlsafe_b64encode(json.dumps(body).encode()).decode().rstrip("=")
    return f"{header}.{encoded}.{signature}"


@pytest.mark.parametrize(
    "part", ["", "a.b", "a.b.c", "....", "é.é.é", "e30.e30.e30", "W10.W10.", "1.2.3"]
)
def test_text_that_is_not_a_jwt_is_refused(part: str) -> None:
    with pytest.raises(InvalidClaims):
        decode_jwt(part)


def test_an_altered_jwt_is_refused() -> None:
    jwt = claims.operator_jwt(OPERATOR, system_account=ACCOUNT.public, issued_at=1)
    assert decode_jwt(jwt)["nats"]["system_account"] == ACCOUNT.public
    for forged in (
        altered(jwt, sub="someone else"),
        altered(jwt, iss=nkeys.generate("operator").public),
        altered(jwt, iss=None),
        jwt[:-4] + "AAAA",
        jwt.rpartition(".")[0] + ".",
    ):
        with pytest.raises(InvalidClaims, match="signature"):
            decode_jwt(forged)


def test_a_tenant_shares_three_subject_spaces_with_the_platform_and_no_more() -> None:
    nats = tenant_claims()
    key = ACCOUNT.public
    assert [(each["type"], each["subject"], each["local_subject"]) for each in nats["imports"]] == [
        ("service", f"ingest.{key}.tenant.{TENANT}.>", f"tenant.{TENANT}.>"),
        ("service", f"ingest.{key}.demo.>", "demo.>"),
        ("stream", f"command.{key}.*", f"tenant.{TENANT}.device.$1.command"),
    ]
    assert {each["account"] for each in nats["imports"]} == {PLATFORM.public}
    assert not any(each.get("share") for each in nats["imports"])
    assert nats["exports"] == []


def test_a_device_may_do_what_a_device_does_and_no_more() -> None:
    scope = next(each for each in tenant_claims()["signing_keys"] if each["role"] == "device")
    own = f"tenant.{TENANT}.device.{{{{name()}}}}"
    assert scope["key"] == DEVICE_KEY.public
    assert scope["template"] == {
        "pub": {
            "allow": [
                f"{own}.heartbeat",
                f"{own}.status",
                f"{own}.status.heartbeat",
                f"{own}.response",
                f"{own}.monitoring",
                f"{own}.sysinfo",
                "demo.system.{{name()}}.*",
            ]
        },
        "sub": {"allow": [f"{own}.command", "_INBOX_{{name()}}.>"]},
        "subs": -1,
        "data": -1,
        "payload": -1,
        "allowed_connection_types": ["STANDARD", "WEBSOCKET"],
    }


def test_limits_are_written_out_in_full() -> None:
    """One that is left out means 0 to the server in some cases, and unlimited in others."""
    limits = AccountLimits(connections=3, subscriptions=4, payload=5, disk_storage=6, streams=7)
    assert tenant_claims(limits=limits)["limits"] == {
        "conn": 3,
        "subs": 4,
        "payload": 5,
        "disk_storage": 6,
        "streams": 7,
        "consumer": 10,
        "leaf": 0,
        "mem_storage": 0,
        "data": -1,
        "imports": -1,
        "exports": 0,
        "wildcards": True,
        "disallow_bearer": True,
        "max_ack_pending": -1,
        "mem_max_stream_bytes": 0,
        "disk_max_stream_bytes": 0,
        "max_bytes_required": True,
    }


def test_revocations_stand_in_the_accounts_claims() -> None:
    assert tenant_claims(revocations={USER.public: 12})["revocations"] == {USER.public: 12}


def test_no_jwt_is_signed_for_a_wrong_key() -> None:
    account = {
        "public": ACCOUNT.public,
        "platform_account": PLATFORM.public,
        "device_key": DEVICE_KEY.public,
        "tenant_key": TENANT_KEY.public,
    }
    for name in account:
        wrong = TenantAccount(tenant=TENANT, **(account | {name: USER.public}))
        with pytest.raises(InvalidClaims):
            claims.tenant_account_jwt(OPERATOR, wrong, issued_at=1)
    with pytest.raises(InvalidClaims):
        claims.operator_jwt(OPERATOR, system_account=USER.public, issued_at=1)
    with pytest.raises(InvalidClaims):
        claims.platform_account_jwt(OPERATOR, "*", system_account=ACCOUNT.public, issued_at=1)
    with pytest.raises(InvalidClaims):
        claims.platform_account_jwt(
            OPERATOR, PLATFORM.public, system_account=USER.public, issued_at=1
        )
    with pytest.raises(InvalidClaims):
        claims.account_user_jwt(PLATFORM, name="x", user_public=ACCOUNT.public, issued_at=1)
    with pytest.raises(InvalidClaims):
        device_user(user_public=USER.seed)
    with pytest.raises(InvalidClaims):
        device_user(account="")


def device_user(**changes: Any) -> str:
    arguments: dict[str, Any] = {
        "account": ACCOUNT.public,
        "device": DEVICE,
        "user_public": USER.public,
        "issued_at": 1,
        "expires_at": 2,
    }
    return claims.device_user_jwt(DEVICE_KEY, **(arguments | changes))


@pytest.mark.parametrize("name", ["*", ">", "a.b", str(DEVICE), "", None, 7])
def test_a_device_named_by_anything_but_its_uuid_is_not_signed(name: object) -> None:
    with pytest.raises(InvalidClaims):
        device_user(device=name)


def test_a_tenant_named_by_anything_but_its_uuid_is_not_signed() -> None:
    for name in ("*", str(TENANT)):
        with pytest.raises(InvalidClaims):
            tenant_claims_of(name)


def tenant_claims_of(tenant: Any) -> str:
    return claims.tenant_user_jwt(
        TENANT_KEY, account=ACCOUNT.public, tenant=tenant, user_public=USER.public, issued_at=1
    )


def test_a_credentials_file_holds_the_jwt_and_the_seed_where_clients_look() -> None:
    lines = credentials_file("a.b.c", USER.seed).splitlines()
    assert lines[lines.index("-----BEGIN NATS USER JWT-----") + 1] == "a.b.c"
    assert lines[lines.index("-----BEGIN USER NKEY SEED-----") + 1] == USER.seed


def test_a_key_pair_can_be_stored_as_its_seed() -> None:
    pair = nkeys.generate("account")
    assert KeyPair(public=nkeys.public_of(pair.seed), seed=pair.seed) == pair
