"""Decide about logins to the broker by password, and record them in the audit.

A name that is not a tenant's or a device's is an attacker's choice, or a password that was typed
into the wrong field, and is stored nowhere.
"""

import hmac
import time
from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from django.db import transaction

from natsbridge.identity import claims
from natsbridge.identity.usernames import parse_username, username_of
from natsbridge.protocol.login_request import Login
from natsbridge.subscriber.callout import Admitted, Refused, Verdict
from tenants.audit.coalescing import CoalescedEvents, Connecting, others_of
from tenants.audit.writer import Actor, AuditEvent, device_actor
from tenants.broker.accounts import Purpose
from tenants.broker.logins import UserSigner, user_signers
from tenants.callout.refusals import VIA, RefusedLogins
from tenants.callout.rules import Refusal
from tenants.credentials.use import record_password_uses
from tenants.models import Action, ActorKind, Credential, FloodBlock, Tenant, hash_token

ANONYMOUS, UNKNOWN_NAME, SERVER = "anonymous", "unknown name", "a question"
WRONG = "wrong username or password"


class Gatekeeper:
    """Judges the logins of the auth callout. It belongs to one thread."""

    def __init__(self) -> None:
        self._refusals = RefusedLogins()
        self._logins = CoalescedEvents(others=others_of)

    def judge(self, logins: Sequence[Login]) -> list[Verdict]:
        """Return a verdict for each login, all recorded or counted before they are answered."""
        credentials = _credentials_of(logins)
        signers = user_signers({each.tenant_id for each in credentials.values()})
        blocked = _blocked({each.tenant_id for each in credentials.values()})
        verdicts: list[Verdict] = []
        admitted: list[tuple[Login, Credential]] = []
        refused: list[tuple[Login, str]] = []
        for login in logins:
            credential = credentials.get(login.password)
            signer = signers.get(_role(credential)) if credential else None
            objection = _objection(login, credential, blocked)
            if credential is None or signer is None or objection:
                reason = objection or "the tenant has no account at the broker yet"
                verdicts.append(Refused(reason))
                refused.append((login, reason))
            else:
                verdicts.append(Admitted(_user_jwt(login, credential, signer)))
                admitted.append((login, credential))
        with transaction.atomic():
            record_password_uses([credential for _, credential in admitted])
            count_logins = self._logins.stage(_kind_and_entry(*each) for each in admitted)
            count_refusals = self._refusals.stage(_described(refused))
        count_logins()
        count_refusals()
        return verdicts

    def record_rejections(self, reasons: Sequence[str]) -> None:
        """Record requests that did not come from one of our servers."""
        self._refusals.record(
            [Refusal(SERVER, reason[:100], "", rejected=True) for reason in reasons]
        )

    def flush(self, *, at_once: bool = False) -> None:
        """Write what has been counted, when it is time."""
        self._logins.flush(at_once=at_once)
        self._refusals.flush(at_once=at_once)


def _credentials_of(logins: Iterable[Login]) -> dict[str, Credential]:
    """Return by password the credential that has it, valid or not."""
    passwords = {hash_token(login.password): login.password for login in logins if login.password}
    rows = Credential.objects.filter(kind=Credential.Kind.PASSWORD, digest__in=passwords)
    return {passwords[row.digest or ""]: row for row in rows.select_related("tenant")}


def _blocked(tenants: Collection[UUID]) -> set[tuple[str, str]]:
    """Return the usernames of blocked flooders, a tenant's with the address that flooded."""
    blocks = FloodBlock.objects.filter(tenant__in=tenants, public_key="").in_force()
    return {
        (
            username_of(block.tenant_id, block.device_uuid),
            "" if block.device_uuid else block.address,
        )
        for block in blocks
    }


def _objection(
    login: Login, credential: Credential | None, blocked: Collection[tuple[str, str]]
) -> str:
    """Return why the login is refused, or an empty string.

    Only with the right password does the reason tell more than that something is wrong.
    """
    if not login.username:
        return "neither a JWT nor a username"
    name = login.username.encode()
    if credential is None or not hmac.compare_digest(credential.username.encode(), name):
        return WRONG
    if credential.state == "ended":
        return "the password has ended"
    if credential.tenant.suspended_at:
        return "the tenant is suspended"
    if {(login.username, ""), (login.username, login.address)}.intersection(blocked):
        return "it has sent too much, and is blocked for a while"
    if not login.is_by_a_client:
        return "a password is accepted from clients only"
    return ""


def _role(credential: Credential) -> tuple[UUID, Purpose]:
    purpose = Purpose.DEVICE if credential.device_uuid else Purpose.TENANT
    return credential.tenant_id, purpose


def _user_jwt(login: Login, credential: Credential, signer: UserSigner) -> str:
    """Return the JWT for this one login, whose user has the permissions of the scoped key only."""
    now, tags = int(time.time()), [f"credential:{credential.pk}"]
    if credential.device_uuid:
        return claims.device_user_jwt(
            signer.key,
            account=signer.account,
            device=credential.device_uuid,
            user_public=login.user_key,
            issued_at=now,
            expires_at=None,
            tags=tags,
        )
    return claims.tenant_user_jwt(
        signer.key,
        account=signer.account,
        tenant=credential.tenant_id,
        user_public=login.user_key,
        issued_at=now,
        tags=tags,
    )


def _kind_and_entry(login: Login, credential: Credential) -> tuple[Connecting, AuditEvent]:
    entry = _entry(login, credential)
    kind = Connecting(
        entry.action, entry.tenant, entry.actor.name, entry.address, str(credential.pk)
    )
    return kind, entry


def _entry(login: Login, credential: Credential) -> AuditEvent:
    """Return the audit event; its detail names the connection as the broker's events do."""
    device = credential.device_uuid
    name = credential.username
    return AuditEvent(
        Action.BROKER_LOGIN,
        credential.tenant_id,
        device_actor(device) if device else Actor(ActorKind.CREDENTIAL, name),
        device=device,
        target=name,
        address=login.address,
        via=VIA,
        detail={
            "credential": credential.pk,
            "kind": credential.kind,
            "server": login.server,
            "client": login.client_id,
        },
    )


def _described(refused: Sequence[tuple[Login, str]]) -> list[Refusal]:
    """Add the tenant and device to each refusal whose name is one of ours."""
    names = {login.username: parse_username(login.username) for login, _ in refused}
    named = [each for each in names.values() if each]
    wanted = {each.tenant for each in named if each.tenant}
    tenants = set(Tenant.objects.filter(pk__in=wanted).values_list("pk", flat=True))
    devices: dict[UUID | None, UUID] = {}
    if of_devices := {each.device for each in named if each.device}:
        rows = Credential.objects.filter(device_uuid__in=of_devices).order_by()
        devices = dict(rows.values_list("device_uuid", "tenant").distinct())

    def describe(login: Login, reason: str) -> Refusal:
        name = names[login.username]
        if name is None:
            unnamed = UNKNOWN_NAME if login.username else ANONYMOUS
            return Refusal(unnamed, reason, login.address)
        tenant = devices.get(name.device) if name.device else name.tenant
        if name.tenant and name.tenant not in tenants:
            tenant = None
        return Refusal(login.username, reason, login.address, tenant, name.device)

    return [describe(login, reason) for login, reason in refused]
