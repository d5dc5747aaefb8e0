"""All streams and consumers in use, the platform's and every tenant's, against what is declared."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from django.conf import settings
from nats.aio.client import Client
from nats.js import JetStreamContext

from natsbridge import accounts, declared, streams
from natsbridge.declarations import StreamDeclaration
from natsbridge.errors import BrokerUnavailable, StreamRefused
from tenants import broker, provisioning
from tenants.errors import NoSuchStream
from tenants.models import BrokerAccount, Tenant
from tenants.provisioning import PATIENCE_SECONDS, REFUSALS

R = TypeVar("R")
Say = Callable[[str], object]


@dataclass(frozen=True)
class TenantStream:
    tenant: Tenant
    account: str
    declaration: StreamDeclaration


def verify() -> list[str]:
    """How the server differs from the declarations, fit to be printed. Changes nothing. Raises
    one of REFUSALS."""
    return [
        *_run(broker.inspector_login(), lambda client: _platform_differences(client.jetstream())),
        *(text for _, found in _tenants_differences(tenant_streams()) for text in found),
    ]


def init(say: Say) -> list[str]:
    """Makes the server's as declared, and says what changed. One that is refused holds up no
    other: returns the reasons of those that were. Raises BrokerUnavailable."""
    refused: list[str] = []

    async def ensure_platform(client: Client) -> None:
        for declaration in declared.all_streams():
            try:
                for change in await streams.ensure(client.jetstream(), declaration):
                    say(change)
            except StreamRefused as error:
                refused.append(str(error))

    _run(broker.stream_maker_login(), ensure_platform)
    for each, found in _tenants_differences(tenant_streams()):
        if not any("is not declared" not in text for text in found):
            continue
        try:
            for change in provisioning.provision(each.tenant):
                say(f"tenant {each.tenant}: {change}")
        except BrokerUnavailable:
            raise
        except REFUSALS as error:
            refused.append(f"tenant {each.tenant}: {error}")
    return refused


def recreate(name: str) -> list[str]:
    """Deletes the declared stream or consumer of this name, with all it holds, and makes it anew;
    what was done. Raises NoSuchStream, and one of REFUSALS."""
    for declaration in declared.all_streams():
        if declaration.name == name:
            return _recreate(declaration, None)
        for consumer in declaration.consumers:
            if consumer.durable_name == name:
                return _recreate(declaration, name)
    for each in tenant_streams():
        if each.declaration.name == name:
            return _recreate(each.declaration, None, each.tenant)
    raise NoSuchStream(f"No stream or consumer {name} is declared.")


def tenant_streams() -> list[TenantStream]:
    found = []
    for account in BrokerAccount.objects.select_related("tenant").order_by("tenant__name"):
        room = broker.stream_bytes(broker.account_limits(account).disk_storage)
        declaration = streams.tenant_stream(account.tenant.pk, max_bytes=room)
        found.append(TenantStream(account.tenant, account.public_key, declaration))
    return found


def _recreate(
    declaration: StreamDeclaration, consumer: str | None, tenant: Tenant | None = None
) -> list[str]:
    login = broker.recreating_login(declaration.name, consumer, tenant.pk if tenant else None)
    return _run(login, lambda client: streams.recreate(client.jetstream(), declaration, consumer))


async def _platform_differences(jetstream: JetStreamContext) -> list[str]:
    declarations = declared.all_streams()
    found = [text for each in declarations for text in await streams.verify(jetstream, each)]
    return found + await streams.undeclared(jetstream, declarations)


def _tenants_differences(
    tenants: Sequence[TenantStream],
) -> Iterator[tuple[TenantStream, list[str]]]:
    async def compare(system: Client) -> list[list[str]]:
        return [await _tenant_differences(system, each) for each in tenants]

    if tenants:
        found = _run(broker.system_login(), compare, patience=PATIENCE_SECONDS + len(tenants))
        yield from zip(tenants, found, strict=True)


async def _tenant_differences(system: Client, tenant: TenantStream) -> list[str]:
    declaration = tenant.declaration
    configurations = await accounts.streams(system, tenant.account)
    found = streams.compare(configurations.get(declaration.name), declaration)
    for stream, consumers in (await accounts.consumers(system, tenant.account)).items():
        if stream != declaration.name:
            found.append(f"stream {stream} of {tenant.tenant} is not declared")
        found += [f"consumer {consumer} of {stream} is not declared" for consumer in consumers]
    return found


def _run(
    login: broker.Login,
    use: Callable[[Client], Awaitable[R]],
    *,
    patience: float = PATIENCE_SECONDS,
) -> R:
    async def run() -> R:
        try:
            async with asyncio.timeout(patience):
                async with provisioning.connected(login, "wegweiser streams") as connection:
                    return await use(connection.client)
        except TimeoutError as error:
            raise BrokerUnavailable(
                f"nats-server at {settings.NATS_URL} did not answer within {patience:.0f} s"
            ) from error

    return asyncio.run(run())
