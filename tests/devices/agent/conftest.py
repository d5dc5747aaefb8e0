"""A broker for all of the agent's tests, and for each test a server, a platform and agents."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.devices.agent.support import AgentProcess, FakeServer, Platform
from tests.support.broker import Broker, StartNats, Tenant

StartAgent = Callable[..., AgentProcess]


@pytest.fixture(autouse=True)
def _files_of_ours_alone() -> Iterator[None]:
    """The agent refuses files that others can write, and tests write some of them by hand."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def agents_broker(
    start_session_nats: StartNats, tmp_path_factory: pytest.TempPathFactory
) -> Broker:
    return Broker(start_session_nats, tmp_path_factory.mktemp("broker"))


@pytest.fixture(scope="session")
def tenant(agents_broker: Broker) -> Tenant:
    async def provision() -> Tenant:
        try:
            return await agents_broker.provision()
        finally:
            await agents_broker.disconnect()

    return asyncio.run(provision())


@pytest.fixture
async def platform(agents_broker: Broker, tenant: Tenant) -> AsyncIterator[Platform]:
    """With INGEST empty."""
    platform = Platform(agents_broker, tenant)
    try:
        await agents_broker.ensure_ingest()
        await platform.connect()
        yield platform
    finally:
        await agents_broker.disconnect()


@pytest.fixture
def server(agents_broker: Broker, tenant: Tenant) -> Iterator[FakeServer]:
    server = FakeServer(tenant, agents_broker.url)
    yield server
    server.close()


@pytest.fixture
def new_agent(server: FakeServer, tmp_path: Path) -> Iterator[StartAgent]:
    """`new_agent()`: an agent not started yet; killed when the test ends."""
    with ExitStack() as agents:

        def make(name: str = "agent") -> AgentProcess:
            agent = AgentProcess(tmp_path / name, server)
            agents.callback(agent.kill)
            return agent

        yield make


@pytest.fixture
def agent(new_agent: StartAgent) -> AgentProcess:
    """Started, so that it enrols and connects."""
    agent = new_agent()
    agent.start()
    return agent


@pytest.fixture(scope="module")
def module_agent(
    agents_broker: Broker, tenant: Tenant, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AgentProcess]:
    """One for all tests of a module that leave it as it was."""
    server = FakeServer(tenant, agents_broker.url)
    agent = AgentProcess(tmp_path_factory.mktemp("agent"), server)
    agent.start()
    try:
        agent.wait_for_log("connected to the broker")
        yield agent
    finally:
        agent.kill()
        server.close()
