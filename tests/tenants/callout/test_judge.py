"""Which passwords are accepted, and what of a login is kept."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from devices.presence import events
from natsbridge.identity import nkeys
from natsbridge.identity.jwt import decode_jwt
from natsbridge.protocol.envelope import RawMessage
from natsbridge.protocol.login_request import Login
from natsbridge.subscriber.callout import Admitted, Refused
from tenants.broker.accounts import ensure_broker_account, ensure_platform_keys
from tenants.broker.logins import callout_authority
from tenants.broker.server import server_config
from tenants.callout.judge import Gatekeeper
from tenants.credentials.issue import Issued, issue_device_password, issue_tenant_credential
from tenants.models import Action, ActorKind, AuditEntry, BrokerKey, Credential, Tenant

SERVER = nkeys.generate("server").public


@pytest.fixture(autouse=True)
def broker_keys(tenant_a: Tenant) -> None:
    ensure_platform_keys()
    ensure_broker_account(tenant_a)


@pytest.fixture
def gatekeeper() -> Gatekeeper:
    return Gatekeeper()


@pytest.fixture
def device_password(tenant_a: Tenant) -> Issued:
    return issue_device_password(tenant_a.pk, uuid.uuid4())


def login(username: str, password: str, **changes: Any) -> Login:
    values = {
        "server": SERVER,
        "server_xkey": "",
        "user_key": nkeys.generate("user").public,
        "kind": "Client",
        "listener": "nats",
        "address": "10.0.0.7",
        "client_id": 7,
    }
    return Login(username=username, password=password, **(values | changes))


def by(issued: Issued, **changes: Any) -> Login:
    return login(issued.username, issued.secret, **changes)


def rows(action: Action) -> list[tuple[str, int]]:
    entries = AuditEntry.objects.filter(action=action).order_by("pk")
    return list(entries.values_list("actor", "count"))


def reason_of(gatekeeper: Gatekeeper, attempt: Login) -> str:
    [verdict] = gatekeeper.judge([attempt])
    return verdict.reason if isinstance(verdict, Refused) else ""


def test_a_device_is_admitted_as_itself_by_its_tenants_scoped_key(
    gatekeeper: Gatekeeper, tenant_a: Tenant, device_password: Issued
) -> None:
    attempt = by(device_password)
    [verdict] = gatekeeper.judge([attempt])
    assert isinstance(verdict, Admitted)
    jwt = decode_jwt(verdict.user_jwt)
    row = device_password.credential
    assert (jwt["name"], jwt["sub"]) == (str(row.device_uuid), attempt.user_key)
    assert jwt["iss"] == tenant_a.broker_keys.get(purpose="device").public_key
    assert jwt["nats"]["issuer_account"] == tenant_a.broker_account.public_key
    assert jwt["nats"]["tags"] == [f"credential:{row.pk}"]
    assert "exp" not in jwt
    entry = AuditEntry.objects.get(action=Action.BROKER_LOGIN)
    assert (entry.tenant_uuid, entry.device_uuid) == (tenant_a.pk, row.device_uuid)
    assert (entry.actor_kind, entry.address, entry.via) == (ActorKind.DEVICE, "10.0.0.7", "broker")
    assert entry.detail["client"] == 7


def test_the_tenants_own_password_opens_the_tenants_user(
    gatekeeper: Gatekeeper, tenant_a: Tenant
) -> None:
    kind = Credential.Kind.PASSWORD
    issued = issue_tenant_credential(tenant_a, kind=kind, by=None)
    [verdict] = gatekeeper.judge([by(issued)])
    assert isinstance(verdict, Admitted)
    jwt = decode_jwt(verdict.user_jwt)
    assert jwt["name"] == f"tenant_{tenant_a.pk}"
    assert jwt["iss"] == tenant_a.broker_keys.get(purpose="tenant").public_key


def test_the_password_before_ends_once_the_new_one_has_been_used(
    gatekeeper: Gatekeeper, tenant_a: Tenant, device_password: Issued
) -> None:
    device = device_password.credential.device_uuid
    assert device
    newer = issue_device_password(tenant_a.pk, device)
    assert not reason_of(gatekeeper, by(device_password))
    assert not reason_of(gatekeeper, by(newer))
    assert reason_of(gatekeeper, by(device_password)) == "the password has ended"
    assert not reason_of(gatekeeper, by(newer))


def test_each_refusal_has_its_reason_in_the_audit(
    gatekeeper: Gatekeeper, tenant_a: Tenant, tenant_b: Tenant, device_password: Issued
) -> None:
    good = by(device_password)
    other = issue_device_password(tenant_a.pk, uuid.uuid4())
    attempts = {
        login("", ""): "neither",
        login(good.username, ""): "wrong",
        login(good.username, "x" * 32): "wrong",
        login(good.username, other.secret): "wrong",
        login(good.username.upper(), good.password): "wrong",
        login(f"tenant_{tenant_a.pk}", good.password): "wrong",
        by(device_password, kind="Leafnode"): "clients only",
        by(device_password, listener="mqtt"): "clients only",
    }
    for attempt, reason in attempts.items():
        assert reason in reason_of(gatekeeper, attempt)
    Tenant.objects.update(suspended_at=timezone.now())
    assert "suspended" in reason_of(gatekeeper, good)
    entry = AuditEntry.objects.filter(action=Action.BROKER_REFUSED).latest("pk")
    assert (entry.actor, entry.tenant_uuid) == (good.username, tenant_a.pk)
    assert (entry.actor_kind, entry.detail) == (
        ActorKind.UNKNOWN,
        {"reason": "the tenant is suspended"},
    )
    assert not AuditEntry.objects.filter(action=Action.BROKER_LOGIN).exists()


def test_a_tenant_without_an_account_at_the_broker_lets_nobody_in(
    gatekeeper: Gatekeeper, tenant_b: Tenant
) -> None:
    issued = issue_device_password(tenant_b.pk, uuid.uuid4())
    tenant_b.broker_keys.all().delete()
    assert "no account" in reason_of(gatekeeper, by(issued))


def test_what_somebody_typed_as_a_username_is_written_nowhere(gatekeeper: Gatekeeper) -> None:
    names = ["hunter2-my-password", "\0\x1b[2J", "x" * 100_000, "device_../../etc", "ad\nmin"]
    gatekeeper.judge([login(name, name) for name in names])
    assert rows(Action.BROKER_REFUSED) == [("unknown name", 1)]
    gatekeeper.flush(at_once=True)
    assert rows(Action.BROKER_REFUSED) == [("unknown name", 1), ("unknown name", 4)]
    written = str(list(AuditEntry.objects.values()))
    assert not any(name in written for name in names)


def test_a_flood_is_counted_and_hides_no_device_of_a_tenant_nor_another_tenants(
    gatekeeper: Gatekeeper, tenant_a: Tenant, tenant_b: Tenant, device_password: Issued
) -> None:
    for _ in range(10):
        gatekeeper.judge([login("", "") for _ in range(200)])
    gatekeeper.judge([login(f"device_{uuid.uuid4()}", "x") for _ in range(200)])
    gatekeeper.judge([login("", "", address=f"10.1.0.{host}") for host in range(200)])
    name = device_password.username
    ours = [login(name, "x", address=f"::{host:x}") for host in range(200)]
    gatekeeper.judge(ours)
    gatekeeper.judge([login(f"tenant_{tenant_b.pk}", "wrong")])
    gatekeeper.flush(at_once=True)
    entries = AuditEntry.objects.filter(action=Action.BROKER_REFUSED)
    assert entries.filter(tenant_uuid=tenant_b.pk).count() == 1
    assert entries.filter(tenant_uuid=tenant_a.pk, actor="others").get().count > 100
    assert entries.count() < 60
    assert sum(entries.values_list("count", flat=True)) == 2000 + 200 + 200 + 200 + 1
    assert entries.filter(tenant_uuid=tenant_a.pk, actor=device_password.username).exists()
    assert entries.get(actor="others", tenant_uuid=None).count > 300


def test_rejected_questions_are_audited_and_counted(gatekeeper: Gatekeeper) -> None:
    for _ in range(50):
        gatekeeper.record_rejections(["replayed", "malformed: not a JWT"])
    gatekeeper.flush(at_once=True)
    assert rows(Action.CALLOUT_REJECTED) == [("a question", count) for count in (1, 1, 49, 49)]


def test_a_batch_costs_few_queries(gatekeeper: Gatekeeper, tenant_a: Tenant) -> None:
    issued = [issue_device_password(tenant_a.pk, uuid.uuid4()) for _ in range(30)]
    gatekeeper.judge([by(each) for each in issued])
    bad = [login(each.username, "wrong") for each in issued[:5]]
    with CaptureQueriesContext(
        connection,
    ) as queries:
        gatekeeper.judge([by(each) for each in issued] + bad)
    assert len(queries) <= 18, [query["sql"][:80] for query in queries]


def test_an_installation_of_an_earlier_version_gets_the_callouts_keys(tmp_path: Path) -> None:
    added = [purpose for purpose in BrokerKey.Purpose if purpose.startswith("callout")]
    BrokerKey.objects.filter(purpose__in=added).delete()
    before = set(BrokerKey.objects.values_list("public_key", flat=True))
    keys = ensure_platform_keys()
    assert set(BrokerKey.objects.values_list("public_key", flat=True)) > before
    config = server_config(server_name="n", port=4222, monitor_port=8222, directory=tmp_path)
    auth = keys[BrokerKey.Purpose.CALLOUT].public_key
    claim = decode_jwt(config.preload[auth])["nats"]["authorization"]
    assert claim == {
        "auth_users": [keys[BrokerKey.Purpose.CALLOUT_USER].public_key],
        "allowed_accounts": ["*"],
        "xkey": keys[BrokerKey.Purpose.CALLOUT_XKEY].public_key,
    }
    assert config.default_sentinel
    sentinel = decode_jwt(config.default_sentinel)
    assert sentinel["iss"] == auth
    assert sentinel["sub"] not in claim["auth_users"], "else nobody would be asked about it"
    assert callout_authority().xkey.public == claim["xkey"]


def test_the_brokers_word_on_a_refused_login_adds_nothing_to_the_audit() -> None:
    """It has the username as it was typed, and the callout has counted it already."""
    auth = callout_authority().account.public
    for number, user in enumerate(("hunter2", nkeys.generate("user").public)):
        body = {
            "server": {"id": SERVER},
            "timestamp": timezone.now().isoformat(),
            "client": {
                "start": timezone.now().isoformat(),
                "acc": auth,
                "id": number,
                "user": user,
            },
            "reason": "Authentication Failure",
        }
        subject = f"broker.{auth}.disconnect"
        message = RawMessage(subject, json.dumps(body).encode(), {}, timezone.now())
        assert events.record_events([message]) == []
    assert not AuditEntry.objects.filter(action=Action.BROKER_DISCONNECTED).exists()


def test_nobody_is_admitted_whose_login_could_not_be_recorded(
    gatekeeper: Gatekeeper, device_password: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no disk")

    monkeypatch.setattr("tenants.audit.coalescing.record_events", fail)
    with pytest.raises(RuntimeError):
        gatekeeper.judge([by(device_password)])
    device_password.credential.refresh_from_db()
    assert device_password.credential.first_used_at is None
