"""The configuration for development and production, taken by a real nats-server."""

import io
import subprocess
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from natsbridge.server.config import ServerTLS
from tenants.models import BrokerAccount, BrokerKey, Tenant
from tests.plugin import allot_port
from tests.support.certificates import self_signed
from tests.support.system import System, eventually
from wegweiser.quickstart.wheels import nats_program


@pytest.fixture
def tls(tmp_path: Path) -> ServerTLS:
    return self_signed(tmp_path)


def given(tls: ServerTLS) -> list[str]:
    return ["--certificate", str(tls.certificate), "--key", str(tls.key)]


def rendered(*options: str) -> str:
    out = io.StringIO()
    call_command("nats_config", *options, stdout=out)
    return out.getvalue()


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--port", "443", "--websocket-host", "127.0.0.1"),
        ("--host", "::", "--websocket-port", "443", "--sync-interval", "always"),
        ("--max-file-store", "200GB", "--log-file", "-", "--log-size-limit", "1MB"),
        ("--log-files", "3", "--log-size-limit", "1GB"),
    ],
)
def test_a_real_server_takes_the_configuration_for_production(
    tls: ServerTLS, tmp_path: Path, more: tuple[str, ...]
) -> None:
    file = tmp_path / "nats-server.conf"
    store = ("--store", str(tmp_path / "store"))
    assert rendered("--production", *given(tls), *store, "--out", str(file), *more) == ""
    checked = subprocess.run(
        [nats_program(), "-t", "-c", file], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.usefixtures("db")
def test_in_production_all_but_loopback_is_encrypted_and_the_log_is_bounded(
    tls: ServerTLS,
) -> None:
    text = rendered("--production", *given(tls), "--max-file-store", "200GB")
    assert 'host: "0.0.0.0"\nport: 4222\nhttp: "127.0.0.1:8222"' in text
    assert text.count('min_version: "1.2"') == 2
    assert "no_tls" not in text
    assert "trace" not in text
    assert f"max_file_store: {200 * 1024**3}" in text
    assert 'nats-server.log"\nlog_size_limit: ' in text
    assert "logfile_max_num: 16" in text
    fewer = rendered("--production", *given(tls), "--log-files", "3")
    assert "logfile_max_num: 3" in fewer
    behind_proxy = rendered("--production", *given(tls), "--websocket-host", "127.0.0.1")
    assert 'websocket {\n  host: "127.0.0.1"\n  port: 9222\n  no_tls: true\n}' in behind_proxy


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    "options", [("--host", "0.0.0.0"), ("--websocket-port", "9222", "--websocket-host", "::")]
)
def test_a_listener_that_others_reach_is_refused_without_tls(options: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match="needs TLS"):
        rendered(*options)


@pytest.mark.usefixtures("db")
def test_what_cannot_be_used_is_said_before_anything_is_written(
    tls: ServerTLS, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other, nowhere, out = self_signed(tmp_path / "other"), tmp_path / "nowhere", tmp_path / "out"
    for certificate, key, problem in (
        (nowhere, tls.key, "cannot read .*nowhere: No such file"),
        (tls.certificate, nowhere, "cannot read .*nowhere: No such file"),
        (tls.certificate, tmp_path, "cannot read .*: Is a directory"),
        (tls.key, tls.key, "no certificate"),
        (tls.certificate, tls.certificate, "no private key"),
        (tls.certificate, other.key, "is not the key of"),
    ):
        files = given(ServerTLS(certificate, key))
        with pytest.raises(CommandError, match=problem):
            rendered("--production", *files, "--out", str(out))
    for options in ((), ("--certificate", str(tls.certificate)), ("--max-file-store", "much")):
        with pytest.raises(CommandError):
            rendered("--production", *options, "--out", str(out))
    assert not out.exists()
    assert not BrokerKey.objects.exists()


CLUSTER = ("--server-name", "one", "--cluster-listen", "0.0.0.0:6222", "--routes", "b:6222, c:6222")


@pytest.mark.usefixtures("db")
def test_a_server_of_a_cluster_takes_its_configuration_which_only_its_user_reads(
    tls: ServerTLS, tmp_path: Path
) -> None:
    file = tmp_path / "one.conf"
    options = ("--production", *given(tls), "--cluster-ca", str(tls.certificate), *CLUSTER)
    rendered(*options, "--store", str(tmp_path / "store"), "--out", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    checked = subprocess.run(
        [nats_program(), "-t", "-c", file], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    text = file.read_text()
    assert 'sync_interval: "always"' in text
    assert text.count("nats-route://route:") == 2
    assert "no_advertise: true" in text
    # The configuration of another server has the same secret, and a folder of its own.
    other = rendered(*options, "--server-name", "two", "--advertise", "two.example:4222")
    secret = text.split("nats-route://")[1].split("@")[0]
    assert secret in other
    assert "nats-two" in other
    assert 'client_advertise: "two.example:4222"' in other


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (CLUSTER, "route by way of 0.0.0.0 needs TLS"),
        ((*CLUSTER, "--cluster-listen", "127.0.0.1:6222"), "route by way of b needs TLS"),
        (CLUSTER[2:], "A cluster needs"),
        (CLUSTER[:4], "A cluster needs"),
        ((*CLUSTER, "--cluster-listen", "127.0.0.1"), "is not a port|not the address"),
        ((*CLUSTER, "--cluster-listen", "127.0.0.1:1", "--routes", "b"), "not the address"),
        ((*CLUSTER, "--cluster-name", "a b"), "no name for a cluster|needs TLS"),
    ],
)
def test_a_cluster_that_others_could_join_or_that_cannot_be_is_refused(
    options: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(CommandError, match=problem):
        rendered(*options)


@pytest.mark.parametrize("scheme", ["tls", "wss"])
def test_the_platforms_own_connections_are_encrypted_and_verified(
    system: System, tls: ServerTLS, settings: Settings, tenant_a: Tenant, scheme: str
) -> None:
    port = allot_port()
    system.restart_with(*given(tls), "--websocket-port", str(port))
    settings.NATS_CA_FILE = tls.certificate
    if scheme == "wss":
        settings.NATS_URL = f"wss://127.0.0.1:{port}"
    else:
        settings.NATS_URL = settings.NATS_URL.replace("nats:", "tls:")
    system.start_subscriber()
    provisioned = BrokerAccount.objects.filter(tenant=tenant_a).exclude(provisioned_at=None)
    eventually(provisioned.exists)
