"""Read a tenant's replay window: the messages of its devices that its own stream still holds."""

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from nats.aio.client import Client
from nats.errors import Error as NatsError

from natsbridge.client.login import Login, connect_as
from natsbridge.errors import BrokerUnavailable
from natsbridge.protocol.hexdump import readable
from natsbridge.protocol.kinds import KINDS
from natsbridge.protocol.subjects import tenant_stream_name
from tenants.audit.writer import record_action
from tenants.broker.logins import replay_login
from tenants.broker.provisioning import PATIENCE_SECONDS
from tenants.errors import NoSuchStream, TenantSuspended
from tenants.models import Action, Tenant

NO_MESSAGE = 10037
_KIND_NAMES = {kind.name: kind.alias_of or kind.name for kind in KINDS}
KIND_NAMES = sorted(set(_KIND_NAMES.values()))


@dataclass(frozen=True)
class Wanted:
    """Selects messages; None selects all."""

    since: datetime | None = None
    device: UUID | None = None
    kind: str | None = None


def read_messages(tenant: Tenant, wanted: Wanted, say: Callable[[dict[str, Any]], object]) -> int:
    """Pass each message to `say`, oldest first, and return how many there were.

    It is recorded in the audit. Raise TenantSuspended, NoSuchStream, BrokerUnavailable or another
    error of these packages.
    """
    if tenant.suspended_at:
        raise TenantSuspended(f"{tenant} is suspended, so nobody can log in to its account.")
    login = replay_login(tenant)
    asked = {name: str(each) for name, each in vars(wanted).items() if each}
    detail = {"what": "messages of its stream", **asked}
    record_action(Action.STAFF_READ, tenant=tenant.pk, target=tenant.name, detail=detail)
    return asyncio.run(_read_as(login, tenant, wanted, say))


async def _read_as(
    login: Login, tenant: Tenant, wanted: Wanted, say: Callable[[dict[str, Any]], object]
) -> int:
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                connection = await stack.enter_async_context(
                    connect_as(login, "wegweiser replay window")
                )
        except TimeoutError as error:
            raise BrokerUnavailable(
                f"nats-server at {settings.NATS_URL} admitted nobody within "
                f"{PATIENCE_SECONDS:.0f} s. Is it running, and {tenant} provisioned? "
                "manage.py provision_tenant_creds --check tells."
            ) from error
        return await _read(connection.client, tenant, wanted, say)


async def _read(
    client: Client, tenant: Tenant, wanted: Wanted, say: Callable[[dict[str, Any]], object]
) -> int:
    request = {"next_by_subj": f"tenant.{tenant.pk}.device.{wanted.device or '*'}.>"}
    place: dict[str, Any] = {"seq": 1}
    if wanted.since:
        place = {"start_time": wanted.since.isoformat()}
    number = 0
    while message := await _ask(client, tenant, request | place):
        place = {"seq": message["seq"] + 1}
        shown = _shown(message)
        if wanted.kind in (None, shown["kind"]):
            say(shown)
            number += 1
    return number


async def _ask(client: Client, tenant: Tenant, request: dict[str, Any]) -> dict[str, Any] | None:
    """Return the next message of the stream, None after the last."""
    stream = tenant_stream_name(tenant.pk)
    try:
        answer = await client.request(
            f"$JS.API.STREAM.MSG.GET.{stream}", json.dumps(request).encode(), PATIENCE_SECONDS
        )
    except NatsError as error:
        raise BrokerUnavailable(f"nats-server did not answer: {error or type(error)}") from error
    said: dict[str, Any] = json.loads(answer.data)
    problem = said.get("error")
    if problem is None:
        message: dict[str, Any] = said["message"]
        return message
    if problem.get("err_code") == NO_MESSAGE:
        return None
    raise NoSuchStream(f"{tenant} has no stream to read: {problem.get('description')}.")


def _shown(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message as people read it; a body that is not JSON is text, or hex digits."""
    subject: str = message["subject"]
    device, _, message_type = subject.split(".", 3)[3].partition(".")
    body = base64.b64decode(message.get("data", ""))
    try:
        content = {"body": json.loads(body)}
    except ValueError:
        content = {"text": readable(body)}
    return {
        "sequence": message["seq"],
        "time": message["time"],
        "device": device,
        "kind": _KIND_NAMES.get(message_type, message_type),
        "subject": subject,
        **content,
    }
