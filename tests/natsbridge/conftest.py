"""Brokers: one for the session, with INGEST in place, and one of its own for a test that breaks
or restarts it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.broker import Broker, StartNats


@pytest.fixture(scope="session")
def session_broker(
    start_session_nats: StartNats, tmp_path_factory: pytest.TempPathFactory
) -> Broker:
    return Broker(start_session_nats, tmp_path_factory.mktemp("broker"))


@pytest.fixture
async def broker(session_broker: Broker) -> AsyncIterator[Broker]:
    """Shared by the session; INGEST is there and empty."""
    try:
        await session_broker.ensure_ingest()
        yield session_broker
    finally:
        await session_broker.disconnect()


@pytest.fixture
async def own_broker(start_nats: StartNats, tmp_path: Path) -> AsyncIterator[Broker]:
    """Of this test alone, without streams."""
    own = Broker(start_nats, tmp_path / "broker")
    try:
        yield own
    finally:
        await own.disconnect()
