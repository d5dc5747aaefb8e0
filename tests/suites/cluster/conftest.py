from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from devices.live import watchers
from natsbridge.redis import client
from tests.suites.cluster.nodes import Cluster
from tests.support.broker import StartNats
from tests.support.system import LoopThread


@pytest.fixture
def cluster(
    transactional_db: None,
    redis_server: object,
    start_nats: StartNats,
    tmp_path: Path,
    loop_thread: LoopThread,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cluster]:
    """Three servers, and no subscriber yet: `cluster.start_subscriber()`."""
    monkeypatch.setattr(watchers.pause, "until", 0.0)
    settings.NATS_URL = settings.AGENT_NATS_URL = settings.NATS_URL
    settings.NATS_REPLICAS = 3
    client(settings.REDIS_URL).flushall()
    whole = Cluster(start_nats, tmp_path, loop_thread)
    yield whole
    whole.close()
