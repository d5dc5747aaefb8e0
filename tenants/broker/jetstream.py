"""Compare the streams and consumers of the platform and of every tenant with their declarations."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from django.conf import settings
from nats.aio.client import Client
from nats.js import JetStreamContext

from natsbridge.client import system_account
from natsbridge.client.login import Login, connect_as
from natsbridge.errors import BrokerUnavailable, StreamRefused
from natsbridge.jetstream import declaration_settings, declarations, streams
from natsbridge.jetstream.declarations import StreamDeclaration
from natsbridge.jetstream.streams import Found
from tenants.broker import provisioning
from tenants.broker.claims import account_limits, stream_bytes
from tenants.broker.logins import (
    inspector_login,
    recreating_login,
    stream_maker_login,
    system_login,
)
from tenants.broker.provisioning import PATIENCE_SECONDS, REFUSALS
from tenants.errors import NoSuchStream, StillInUse
from tenants.models import BrokerAccount, Tenant

R = TypeVar("R")
Say = Callable[[str], object]


@dataclass(frozen=True)
class TenantStream:
    tenant: Tenant
    account: str
    declaration: StreamDeclaration


@dataclass(frozen=True)
class Undeclared:
    """A stream or consumer that is not declared, in the platform's account or in a tenant's."""

    found: Found
    tenant: Tenant | None = None

    @property
    def name(self) -> str:
        """The name under which `remove` finds it."""
        return f"{self.tenant.pk}:{self.found.path}" if self.tenant else self.found.path

    def __str__(self) -> str:
        whose = f" of tenant {self.tenant}" if self.tenant else ""
        return f"{self.found}{whose}"


def verify() -> list[str]:
    """Return how the server differs from the declarations, as lines to print.

    Raises one of REFUSALS.
    """
    return [
        *_run(inspector_login(), lambda client: _platform_differences(client.jetstream())),
        *(text for _, found in _tenants_differences(tenant_streams()) for text in found),
    ]


def undeclared() -> list[Undeclared]:
    """Return what the server has besides. Raises one of REFUSALS."""

    async def of_platform(client: Client) -> list[Found]:
        return await streams.undeclared(client.jetstream(), declaration_settings.all_streams())

    found = [Undeclared(each) for each in _run(inspector_login(), of_platform)]
    return found + _tenants_undeclared(tenant_streams())


def init(say: Say) -> list[str]:
    """Create and update what is declared, and `say` what changed.

    A refusal holds up nothing else; return the reasons of all refusals. Raises BrokerUnavailable.
    """
    refused: list[str] = []

    async def ensure_platform(client: Client) -> None:
        for declaration in declaration_settings.all_streams():
            try:
                for change in await streams.ensure(client.jetstream(), declaration):
                    say(change)
            except StreamRefused as error:
                refused.append(str(error))

    _run(stream_maker_login(), ensure_platform)
    for each, found in _tenants_differences(tenant_streams()):
        if not found:
            continue
        try:
            for change in provisioning.provision(each.tenant):
                say(f"tenant {each.tenant}: {change}")
        except BrokerUnavailable:
            raise
        except REFUSALS as error:
            refused.append(f"tenant {each.tenant}: {error}")
    return refused


def remove(name: str, *, with_messages: bool = False) -> str:
    """Delete an undeclared stream or consumer by the name of `undeclared`; return what was done.

    Raises NoSuchStream, StillInUse where it holds messages (unless `with_messages`), and one of
    REFUSALS.
    """
    each = next((each for each in undeclared() if each.name == name), None)
    if each is None:
        raise NoSuchStream(
            f'Unknown undeclared stream or consumer "{name}". jetstream_verify lists them. What is '
            "declared is never removed."
        )
    found = each.found
    if found.messages and not with_messages:
        raise StillInUse(
            f"{each} holds {found.messages} messages. Add --with-messages to remove them with it."
        )
    tenant = each.tenant.pk if each.tenant else None
    login = recreating_login(found.stream, found.consumer, tenant)
    _run(login, lambda client: streams.remove(client.jetstream(), found.stream, found.consumer))
    return f"{each} removed, with {found.messages} messages"


def recreate(name: str) -> list[str]:
    """Delete the declared stream or consumer with all it holds, and create it again.

    Return what was done. Raises NoSuchStream, and one of REFUSALS.
    """
    for declaration in declaration_settings.all_streams():
        if declaration.name == name:
            return _recreate(declaration, None)
        for consumer in declaration.consumers:
            if consumer.durable_name == name:
                return _recreate(declaration, name)
    for each in tenant_streams():
        if each.declaration.name == name:
            return _recreate(each.declaration, None, each.tenant)
    raise NoSuchStream(f'There is no declared stream or consumer "{name}".')


def tenant_streams() -> list[TenantStream]:
    found = []
    for account in BrokerAccount.objects.select_related("tenant").order_by("tenant__name"):
        room = stream_bytes(account_limits(account).disk_storage)
        declaration = declarations.tenant_stream(account.tenant.pk, max_bytes=room)
        found.append(TenantStream(account.tenant, account.public_key, declaration))
    return found


def _recreate(
    declaration: StreamDeclaration, consumer: str | None, tenant: Tenant | None = None
) -> list[str]:
    login = recreating_login(declaration.name, consumer, tenant.pk if tenant else None)
    return _run(login, lambda client: streams.recreate(client.jetstream(), declaration, consumer))


async def _platform_differences(jetstream: JetStreamContext) -> list[str]:
    return [
        text
        for each in declaration_settings.all_streams()
        for text in await streams.verify(jetstream, each)
    ]


def _tenants_differences(
    tenants: Sequence[TenantStream],
) -> Iterator[tuple[TenantStream, list[str]]]:
    async def compare(system: Client, tenant: TenantStream) -> list[str]:
        configurations = await system_account.streams(system, tenant.account)
        name = tenant.declaration.name
        return streams.compare(configurations.get(name), tenant.declaration)

    return _of_each(tenants, compare)


def _tenants_undeclared(tenants: Sequence[TenantStream]) -> list[Undeclared]:
    async def held(system: Client, tenant: TenantStream) -> list[Found]:
        return await system_account.held(system, tenant.account)

    return [
        Undeclared(found, each.tenant)
        for each, all_found in _of_each(tenants, held)
        for found in all_found
        if (found.stream, found.consumer) != (each.declaration.name, None)
    ]


def _of_each(
    tenants: Sequence[TenantStream], ask: Callable[[Client, TenantStream], Awaitable[R]]
) -> Iterator[tuple[TenantStream, R]]:
    async def ask_all(system: Client) -> list[R]:
        return [await ask(system, each) for each in tenants]

    if tenants:
        found = _run(system_login(), ask_all, patience=PATIENCE_SECONDS + len(tenants))
        yield from zip(tenants, found, strict=True)


def _run(
    login: Login,
    use: Callable[[Client], Awaitable[R]],
    *,
    patience: float = PATIENCE_SECONDS,
) -> R:
    async def run() -> R:
        try:
            async with asyncio.timeout(patience):
                async with connect_as(login, "wegweiser streams") as connection:
                    return await use(connection.client)
        except TimeoutError as error:
            raise BrokerUnavailable(
                f"nats-server at {settings.NATS_URL} did not answer within {patience:.0f} s"
            ) from error

    return asyncio.run(run())
