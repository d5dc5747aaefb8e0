"""Real servers for the tests, on free ports, in each process that runs tests.

Loaded with `-p tests.plugin`, so that this module's import, which allots the ports and says so in
the environment, comes before Django reads its settings. A server starts when the first test asks
for it. Under xdist each worker has its own servers and the controller has none.
"""

import atexit
import base64
import gc
import os
import random
import secrets
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from wegweiser.quickstart.ports import LOOPBACK, is_free
from wegweiser.quickstart.processes import Directories, end_leftovers
from wegweiser.quickstart.servers import Nats, Postgres, Redis

# Which server a test touches, by the fixtures it uses, directly or through others.
SERVER_FIXTURES = {
    "postgres": {"postgres_server"},
    "redis": {"redis_server"},
    "nats": {"start_nats", "start_session_nats"},
    "browser": {"browser"},
}
# Below the ports that the system gives to outgoing connections. Each xdist worker has a part of
# its own, since a port may be allotted long before its server starts.
FIRST_PORT, LAST_PORT = 10_000, 30_000
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
WORKERS = max(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")), WORKER + 1)
PORT_RANGE = range(FIRST_PORT + WORKER, LAST_PORT, WORKERS)
# Tests that share something costly, such as a web process and a browser, by the beginning of their
# node ids: one worker runs them all, and before the others, since they take long. The mark
# `xdist_group` does not reach pytest-xdist 3.8 from pytest 9.2.
TOGETHER = (
    "tests/browser/",
    "tests/house/",
    "tests/suites/attacks/",
    "tests/suites/faults/",
    "tests/suites/whole/",
    "tests/wegweiser/quickstart/test_quickstart.py",
    "tests/wegweiser/web/",
)

_taken: set[int] = set()
_touched: Counter[str] = Counter()


def allot_port() -> int:
    """A free port of 127.0.0.1 that no other caller gets, in this process or another worker."""
    while True:
        port = random.SystemRandom().choice(PORT_RANGE)
        if port not in _taken and is_free(port):
            _taken.add(port)
            return port


def _make_home() -> Path:
    """The temporary WEGWEISER_HOME: the controller's, or inside it the xdist worker's."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        return Path(tempfile.mkdtemp(prefix="wegweiser-tests-"))
    home = Path(os.environ["WEGWEISER_HOME"]) / worker
    home.mkdir(exist_ok=True)
    return home


def _clean_up() -> None:
    # What a fixture could not stop because it was itself interrupted.
    end_leftovers(Directories(HOME))
    shutil.rmtree(HOME, ignore_errors=True)


HOME = _make_home()
# Also after a start that failed, of which pytest tells no plugin.
atexit.register(_clean_up)
POSTGRES = Postgres(HOME, allot_port(), secrets.token_hex(8), durable=False)
REDIS = Redis(HOME, allot_port(), secrets.token_hex(8), durable=False)

os.environ |= {
    "WEGWEISER_HOME": str(HOME),
    "DATABASE_URL": POSTGRES.url,
    "REDIS_URL": REDIS.url,
    "NATS_URL": f"nats://{LOOPBACK}:{allot_port()}",
    "NATS_MONITOR_URL": f"http://{LOOPBACK}:{allot_port()}",
    "SECRET_KEY": secrets.token_urlsafe(50),
    "AUDIT_KEY": secrets.token_urlsafe(50),
    "FIELD_ENCRYPTION_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
}


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The Postgres of DATABASE_URL. Tests marked `django_db` have it without asking."""
    try:
        POSTGRES.start()
        yield POSTGRES
    finally:
        POSTGRES.stop()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """The Redis of REDIS_URL."""
    try:
        REDIS.start()
        yield REDIS
    finally:
        REDIS.stop()


@contextmanager
def _nats_starter(directory: Path) -> Iterator[Callable[..., Nats]]:
    with ExitStack() as started:

        def start(configuration: str, *, port: int, monitor_port: int) -> Nats:
            """Run a nats-server on this configuration, which names the two ports as well.

            Started again on the same port, it writes the new configuration and carries on with
            whatever data the configuration names.
            """
            name = f"nats-server-{port}"
            file = directory / f"{name}.conf"
            file.write_text(configuration)
            server = Nats(HOME, port, file, monitor_port, name=name)
            started.callback(server.stop)
            server.start()
            return server

        yield start


@pytest.fixture
def start_nats(tmp_path: Path) -> Iterator[Callable[..., Nats]]:
    """`start_nats(configuration, port=, monitor_port=) -> Nats`; stopped when the test ends."""
    with _nats_starter(tmp_path) as start:
        yield start


@pytest.fixture(scope="session")
def start_session_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Nats]]:
    """As `start_nats`, for a server that lives as long as the session."""
    with _nats_starter(tmp_path_factory.mktemp("nats")) as start:
        yield start


class Overrides:
    """Fixtures that replace pytest-django's; so they are registered after it."""

    @pytest.fixture(scope="session")
    @classmethod
    def django_db_modify_db_settings(cls, postgres_server: Postgres) -> None:
        """Creating the test database needs the server; nothing in the settings changes."""


class Scheduling(LoadScopeScheduling):
    """Give each test to the next free worker, and first those that belong TOGETHER."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """What one worker runs as a whole: the test alone, as a rule."""
    return next((start for start in TOGETHER if nodeid.startswith(start)), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    return Scheduling(config, log) if config.getvalue("dist") == "loadgroup" else None


def servers_of(item: pytest.Item, fixtures: Iterable[str]) -> list[str]:
    """The servers that a test touches, by the fixtures it uses and by its marks."""
    used = {*fixtures}
    named = {name for mark in item.iter_markers("touches") for name in mark.args}
    if item.get_closest_marker("django_db"):
        named.add("postgres")
    return [name for name, starting in SERVER_FIXTURES.items() if starting & used or name in named]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test that touches a server, before `-m` chooses among them."""
    for item in items:
        if servers_of(item, getattr(item, "fixturenames", ())):
            item.add_marker("server")


def pytest_collection() -> None:
    """Keep the garbage collector from looking for garbage while nearly none is made."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Keep it from going through all modules and tests again and again."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _servers_touched(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    # Asked again at the end, since a test may have asked for fixtures along the way.
    servers = servers_of(request.node, request.fixturenames)
    if servers and not request.node.get_closest_marker("server"):
        pytest.fail(f"Mark this test `touches({', '.join(servers)})`: collecting does not see it.")
    # Properties travel with the report from an xdist worker to the controller.
    request.node.user_properties.append(("servers", servers))


def pytest_configure(config: pytest.Config) -> None:
    # Ended by a time limit or a service manager, stop the servers as after a Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "touches(*names): starts real servers of its own: postgres, redis, nats, browser"
    )
    config.addinivalue_line("markers", "server: touches a real server; added when collecting")
    config.pluginmanager.register(Overrides(), "wegweiser-overrides")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when != "teardown":
        return
    servers = dict(report.user_properties).get("servers", ())
    assert isinstance(servers, list | tuple)
    _touched.update(servers)
    _touched["any"] += bool(servers)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    each = ", ".join(f"{name}: {_touched[name]}" for name in SERVER_FIXTURES)
    terminalreporter.write_line(f"{_touched['any']} tests touched a real server ({each})")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    _clean_up()
