"""Of each kind what may go goes, and what must stay stays."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib.sessions.models import Session
from django.db.models import Model
from django.utils import timezone

from devices.models import (
    BrokerSession,
    BulkCommand,
    Command,
    CommandState,
    Device,
    Presence,
    PresenceChange,
    RegistrationProof,
    Reporter,
)
from natsbridge.models import DeadLetter, SubscriberStatus
from natsbridge.retention.engine import prune, retention
from tenants.audit import sealing
from tenants.audit.writer import record_action
from tenants.broker.claims import revocations_of
from tenants.models import (
    Action,
    ApiToken,
    AuditEntry,
    BrokerKey,
    Credential,
    EnrollmentKey,
    Group,
    Tenant,
    User,
)

NOW = timezone.now()
JWT, PASSWORD = Credential.Kind.JWT, Credential.Kind.PASSWORD


def ago(days: float) -> Any:
    return NOW - timedelta(days=days)


def pruned(name: str) -> int:
    [outcome] = prune([kind for kind in retention.kinds if kind.name == name])
    assert not outcome.problem
    return outcome.rows


def left(model: type[Model], field: str) -> set[Any]:
    return set(model._default_manager.values_list(field, flat=True))


def command(device: Device, name: str, state: CommandState, **fields: Any) -> Command:
    fields = {"created_at": ago(100), "deadline": ago(99)} | fields
    return Command.objects.create(device=device, command=name, state=state, **fields)


def test_final_commands_go_after_their_days(device_a: Device) -> None:
    old = command(device_a, "old", CommandState.SUCCEEDED, finished_at=ago(91))
    command(device_a, "again", CommandState.FAILED, finished_at=ago(89), retry_of=old)
    command(device_a, "old and cancelled", CommandState.CANCELLED, finished_at=ago(91))
    command(device_a, "still open", CommandState.SENT)
    command(device_a, "waits", CommandState.QUEUED, deadline=ago(-1))
    assert pruned("commands") == 2
    assert left(Command, "command") == {"again", "still open", "waits"}
    assert Command.objects.get(command="again").retry_of is None


def test_a_signature_is_remembered_for_longer_than_it_is_good(db: None) -> None:
    for name, days in (("old", 1.1), ("young", 0.9)):
        moment = int(ago(days).timestamp())
        RegistrationProof.objects.create(nkey_public=name, timestamp=moment)
    assert pruned("registration proofs") == 1
    assert left(RegistrationProof, "nkey_public") == {"young"}


def test_a_bulk_command_goes_as_a_whole(device_a: Device, tenant_a: Tenant) -> None:
    def bulk(name: str, deadline: float, **fields: Any) -> BulkCommand:
        return BulkCommand.objects.create(
            tenant=tenant_a,
            command=name,
            created_at=ago(120),
            deadline=ago(deadline),
            **({"expanded_at": ago(120)} | fields),
        )

    gone, young, unexpanded = bulk("gone", 91), bulk("young", 89), bulk("u", 91, expanded_at=None)
    for parent in (gone, young):
        fields = {"finished_at": ago(110), "bulk": parent}
        command(device_a, parent.command, CommandState.SUCCEEDED, **fields)
    assert pruned("bulk commands") == 0
    assert pruned("commands") == 1
    assert pruned("bulk commands") == 1
    assert left(BulkCommand, "pk") == {young.pk, unexpanded.pk}
    assert left(Command, "command") == {"young"}


def test_of_presence_history_the_last_change_before_stays(
    device_a: Device, device_b: Device
) -> None:
    for device, days in [(device_a, (200, 100, 91, 10)), (device_b, (300,))]:
        for each in days:
            PresenceChange.objects.create(
                device=device,
                presence=Presence.ONLINE,
                at=ago(each),
                reported_by=Reporter.CONNECT,
            )
    assert pruned("presence history") == 2
    assert left(PresenceChange, "at") == {ago(91), ago(10), ago(300)}


def test_broker_sessions_go_a_day_after_their_end(device_a: Device) -> None:
    for number, ended_at in enumerate((None, ago(2), ago(0.5))):
        BrokerSession.objects.create(
            server_id="S",
            client_id=number,
            device=device_a,
            started_at=ago(30),
            ended_at=ended_at,
        )
    assert pruned("broker sessions") == 1
    assert left(BrokerSession, "client_id") == {0, 2}


@pytest.fixture
def credential(tenant_a: Tenant, device_a: Device) -> Callable[..., Credential]:
    Credential.objects.all().delete()
    BrokerKey.objects.update(created_at=ago(300))

    def make(name: str, kind: Credential.Kind = JWT, **fields: Any) -> Credential:
        fields = {"device_uuid": device_a.pk, "issued_at": ago(200)} | fields
        if kind == PASSWORD:
            fields["digest"] = name
        return Credential.objects.create(tenant=tenant_a, kind=kind, public_key=name, **fields)

    return make


def test_a_credential_stays_while_it_opens_or_voids_anything(
    tenant_a: Tenant, credential: Callable[..., Credential]
) -> None:
    credential("live", expires_at=ago(-1))
    credential("revoked, and its JWT would still be good", ended_at=ago(100), expires_at=ago(-1))
    credential("revoked, of the tenant, for ever", device_uuid=None, ended_at=ago(100))
    credential("live of the tenant", device_uuid=None)
    credential("live password", PASSWORD)
    credential("ended password of late", PASSWORD, ended_at=ago(10))
    credential("expired of late", ended_at=ago(20), expires_at=ago(10))
    credential("expired long since", ended_at=ago(150), expires_at=ago(100))
    credential("ended password", PASSWORD, ended_at=ago(100))
    credential("of the tenant", PASSWORD, device_uuid=None, ended_at=ago(100))
    voided = revocations_of(tenant_a.pk)
    assert len(voided) == 2
    assert pruned("credentials") == 3
    assert revocations_of(tenant_a.pk) == voided
    gone = {"expired long since", "ended password", "of the tenant"}
    assert not gone & left(Credential, "public_key")


def test_the_credential_that_a_device_used_last_stays_for_as_long_as_the_device(
    device_a: Device, credential: Callable[..., Credential]
) -> None:
    credential("used", expires_at=ago(100), first_used_at=ago(190))
    credential("used last", expires_at=ago(100), first_used_at=ago(180))
    credential("never used", expires_at=ago(100))
    assert pruned("credentials") == 2
    assert left(Credential, "public_key") == {"used last"}
    device_a.delete()
    assert pruned("credentials") == 1


def test_enrolment_keys_go_when_they_have_long_opened_nothing(group_a: Group) -> None:
    def key(name: str, **fields: Any) -> None:
        EnrollmentKey.objects.create(
            group=group_a, name=name, digest=name, created_at=ago(400), **fields
        )

    key("any number", max_uses=None, uses=50)
    key("not used")
    key("used up of late", uses=1, last_used_at=ago(5))
    key("revoked of late", revoked_at=ago(5))
    key("used up", uses=1, last_used_at=ago(100))
    key("used up, when is not known", uses=1)
    key("revoked", revoked_at=ago(100))
    key("expired", expires_at=ago(100))
    assert pruned("enrolment keys") == 4
    assert left(EnrollmentKey, "name") == {
        "any number",
        "not used",
        "used up of late",
        "revoked of late",
    }


def test_a_registration_puts_down_when_its_key_was_used(device_a: Device) -> None:
    used = EnrollmentKey.objects.get().last_used_at
    assert used is not None
    assert used >= NOW


def test_api_tokens_go_long_after_they_expired(alice: User) -> None:
    for name, expiry in {"never": None, "late": ago(5), "live": ago(-5), "old": ago(91)}.items():
        ApiToken.objects.create(user=alice, name=name)
        ApiToken.objects.filter(name=name).update(expiry=expiry)
    assert pruned("API tokens") == 1
    assert left(ApiToken, "name") == {"never", "late", "live"}


def test_the_audit_is_pruned_behind_an_anchor_and_says_so(tenant_a: Tenant) -> None:
    AuditEntry.objects.all().delete()
    for number in range(3):
        record_action(Action.DEVICE_MOVED, tenant=tenant_a.pk, target=f"{number}")
    AuditEntry.objects.filter(target__in="01").update(at=ago(366))
    assert pruned("audit entries") == 0  # nothing is removed that was not sealed
    sealing.seal_batch()
    assert pruned("audit entries") == 2
    assert left(AuditEntry, "action") == {Action.DEVICE_MOVED, Action.AUDIT_PRUNED}


def test_what_the_library_of_logins_keeps_goes(db: None) -> None:
    for model in (AccessAttempt, AccessFailureLog, AccessLog):
        extra = {"failures_since_start": 1} if model is AccessAttempt else {}
        for days in (1, 31):
            row = model.objects.create(username=f"{days}", ip_address="127.0.0.1", **extra)
            model.objects.filter(pk=row.pk).update(attempt_time=ago(days))
    Session.objects.create(session_key="live", expire_date=ago(-1))
    Session.objects.create(session_key="gone", expire_date=ago(1))
    for name in ("sign-in attempts", "failed sign-ins", "sign-ins", "sessions"):
        assert pruned(name) == 1
    assert left(AccessAttempt, "username") == {"1"}
    assert left(Session, "session_key") == {"live"}


def test_the_bridges_own_rows_go(db: None) -> None:
    asked = {"replay_requested_at": NOW}
    for reason, days, fields in [("old", 31, {}), ("asked for", 31, asked), ("new", 29, {})]:
        DeadLetter.objects.create(
            reason=reason,
            subject="s",
            body=b"",
            received_at=NOW,
            dead_lettered_at=ago(days),
            **fields,
        )
    for instance, days in {"dead": 1.1, "silent": 0.5}.items():
        SubscriberStatus.objects.create(
            instance=instance, started_at=ago(9), beat_at=ago(days), connected=True
        )
    assert pruned("dead letters") == pruned("subscriber statuses") == 1
    assert left(DeadLetter, "reason") == {"asked for", "new"}
    assert left(SubscriberStatus, "instance") == {"silent"}
