import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.plugin import allot_port
from wegweiser.quickstart.errors import ChildDied
from wegweiser.quickstart.ports import LOOPBACK, accepts_connections
from wegweiser.quickstart.processes import Directories, spawn
from wegweiser.quickstart.servers import Nats, Postgres, Redis, Server, remove_stale_lock


@pytest.fixture
def home() -> Iterator[Path]:
    """A home below a folder that nobody else may enter, as a clone in /root is."""
    with tempfile.TemporaryDirectory() as closed:
        home = Path(closed) / "a home"
        home.mkdir()
        yield home


def process_of(server: Server) -> psutil.Process:
    assert server.child is not None
    return psutil.Process(server.child.process.pid)


def listening_addresses(server: Server) -> set[str]:
    return {
        connection.laddr.ip
        for connection in process_of(server).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


@pytest.mark.touches("postgres")
def test_postgres_keeps_its_data_through_a_restart_and_wants_the_password(home: Path) -> None:
    postgres = Postgres(home, allot_port(), "secret", durable=False)
    try:
        postgres.start()
        assert listening_addresses(postgres) == {LOOPBACK}
        with psycopg.connect(postgres.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(postgres.url.replace("secret", "wrong"))
        postgres.stop()
        assert not accepts_connections(postgres.port)
        postgres.start()
        with psycopg.connect(postgres.url) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    finally:
        postgres.stop()
    assert postgres.child is not None
    assert postgres.child.process.returncode == 0, "a fast shutdown, no crash"
    assert not (home / "postgres.password").exists()


@pytest.mark.touches("postgres")
def test_postgres_never_runs_as_root_and_changes_no_mode_outside_its_home(home: Path) -> None:
    closed = home.parent
    before = stat.S_IMODE(closed.stat().st_mode)
    postgres = Postgres(home, allot_port(), "secret", durable=False)
    try:
        postgres.start()
        process = process_of(postgres)
        owner = os.geteuid() or pwd.getpwnam("nobody").pw_uid
        assert set(process.uids()) == {owner}
        assert (home / "postgres").stat().st_uid == owner
        assert set(process.gids()) == {os.getegid() or pwd.getpwnam("nobody").pw_gid}
    finally:
        postgres.stop()
    assert before == stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert closed.stat().st_uid == home.stat().st_uid == os.geteuid()


@pytest.mark.touches("postgres")
def test_a_half_made_data_folder_is_made_again(home: Path) -> None:
    (home / "postgres.new").mkdir()
    (home / "postgres.new" / "PG_VERSION").write_text("18")
    postgres = Postgres(home, allot_port(), "secret", durable=False)
    try:
        postgres.start()
    finally:
        postgres.stop()
    assert not (home / "postgres.new").exists()


@pytest.mark.touches("postgres")
def test_postgres_starts_although_a_crashed_ones_pid_belongs_to_another_process(
    home: Path, tmp_path: Path
) -> None:
    postgres = Postgres(home, allot_port(), "secret", durable=False)
    # Of the same user: about a process of another Postgres knows that it is none of its kind.
    stranger = spawn(
        "stranger", ["/bin/sleep", "60"], Directories(tmp_path), environment={}, unprivileged=[]
    )
    try:
        postgres.start()
        postgres.stop()
        stranger.wait_until(
            lambda: psutil.Process(stranger.process.pid).name() == "sleep", limit=10
        )
        lock = postgres.data / "postmaster.pid"
        lock.write_text(f"{stranger.process.pid}\n{postgres.data}\n1\n{postgres.port}\n\n\n\n")
        postgres.start()
    finally:
        postgres.stop()
        stranger.stop()


@pytest.mark.touches("postgres")
def test_the_lock_of_a_postgres_that_runs_stays(home: Path) -> None:
    postgres = Postgres(home, allot_port(), "secret", durable=False)
    try:
        postgres.start()
        remove_stale_lock(postgres.data / "postmaster.pid")
        assert (postgres.data / "postmaster.pid").exists()
    finally:
        postgres.stop()


@pytest.mark.touches("redis")
def test_redis_keeps_its_data_through_a_restart_and_wants_the_password(home: Path) -> None:
    server = Redis(home, allot_port(), "secret")
    try:
        server.start()
        assert listening_addresses(server) == {LOOPBACK}
        redis.Redis.from_url(server.url).set("kept", "42")
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)).get("kept")
        server.stop()
        server.start()
        assert redis.Redis.from_url(server.url).get("kept") == b"42"
    finally:
        server.stop()
    assert stat.S_IMODE((home / "redis" / "valkey.conf").stat().st_mode) == 0o600


@pytest.mark.touches("redis")
def test_redis_stops_although_its_last_snapshot_cannot_be_written(home: Path) -> None:
    server = Redis(home, allot_port(), "secret")
    try:
        server.start()
        redis.Redis.from_url(server.url).set("lost", "42")
        shutil.rmtree(home / "redis")
    finally:
        server.stop()
    assert server.child is not None
    assert server.child.process.returncode == 0, "by itself, without SIGKILL"


def nats(home: Path, configuration: str) -> Nats:
    port, monitor_port = allot_port(), allot_port()
    file = home / "nats.conf"
    file.write_text(
        f'listen: "{LOOPBACK}:{port}"\nhttp: "{LOOPBACK}:{monitor_port}"\n{configuration}'
    )
    return Nats(home, port, file, monitor_port)


@pytest.mark.touches("nats")
def test_nats_server_is_up_when_both_of_its_ports_answer(home: Path) -> None:
    server = nats(home, "")
    try:
        server.start()
        assert accepts_connections(server.port)
        assert accepts_connections(server.monitor_port)
        assert listening_addresses(server) == {LOOPBACK}
    finally:
        server.stop()
    assert not accepts_connections(server.port)


@pytest.mark.touches("nats")
def test_a_server_that_refuses_its_configuration_is_named_with_its_own_words(home: Path) -> None:
    server = nats(home, "no_such_setting: 1\n")
    with pytest.raises(ChildDied, match=r"nats-server ended by itself(.|\n)*no_such_setting"):
        server.start()
