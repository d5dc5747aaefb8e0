"""Render the configuration file of a nats-server.

Comments give the reason where the server's default would be wrong for this platform. Accounts
change while the server runs, so they are not in the file but pushed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from natsbridge.errors import BridgeError

_GIGABYTE = 1024**3
# The most bytes that all streams of a server may reserve together.
MAX_FILE_STORE = 64 * _GIGABYTE
_LOOPBACK = "127.0.0.1"
# The most bytes that may wait for a client that does not read. Our own subscriber reads up to
# 10 MB/s and may pause for two seconds; the server's default of 64 MB would let a few dozen
# connections of one credential that do not read take gigabytes.
_MAX_PENDING = 20 * 1024**2
# The default of 2 s is too short for a slow link, and when all agents come back at once.
_HANDSHAKE_TIMEOUT = "10s"
_ROUTE_USER = "route"
# The most messages that may wait to be written to one stream; beyond it the server refuses all
# publishers (429). A device that sends 100,000 messages a second is disconnected within two
# seconds; with the default of 100,000 its neighbours would be refused until then.
_MAX_BUFFERED_MESSAGES = 500_000
_MAX_BUFFERED_BYTES = 256 * 1024**2
# Servers with the same claims exchange only hashes.
_SYNC_CLAIMS = "2s"


@dataclass(frozen=True, slots=True)
class ServerTLS:
    """The files of a server's certificate and key, in PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """The cluster that a server belongs to.

    `routes` are the addresses, as `host:port`, of all or some of its servers; the server's own may
    be one of them. A server that joins sees every account, so each must present `secret`, the same
    for all, and outside loopback a certificate of `ca`, which should sign nothing else.
    `advertise` is the address, as `host:port`, that this server names to clients. Without it the
    server names none, since the address that it finds out need not match its certificate.
    """

    name: str
    host: str
    port: int
    routes: tuple[str, ...]
    secret: str = field(repr=False)
    tls: ServerTLS | None = None
    ca: Path | None = None
    advertise: str | None = None


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The configuration of one server. Sizes are bytes; `sync_interval` is a nats-server duration.

    `preload` maps the keys of the accounts that the server must know before anything is pushed,
    the system's and the platform's, to their JWTs; a newer JWT that was pushed takes precedence.
    `max_file_store` must hold what the streams of all accounts reserve, not what they use.
    `sync_interval` is for the whole server: a power cut loses what was acknowledged since the last
    sync. "always" loses nothing and costs one fsync a message. A cluster always has "always", since
    there many messages share one fsync.
    `websocket_host` is for a proxy that terminates TLS: on loopback the websocket listener has no
    TLS. Otherwise it has the host and the certificate of the other listener.
    A log file is rotated at `log_size_limit`, and `log_files` of them are kept. One client can
    cause 37 MB of log a second (tried), with a line for each publish that it may not make.
    `default_sentinel` is the bearer JWT of clients that bring none: the server asks the auth
    callout about them.
    """

    server_name: str
    port: int
    monitor_port: int
    store_dir: Path
    resolver_dir: Path
    operator_jwt: str
    system_account: str
    preload: Mapping[str, str] = field(repr=False)
    host: str = _LOOPBACK
    websocket_port: int | None = None
    websocket_host: str | None = None
    tls: ServerTLS | None = None
    max_file_store: int = MAX_FILE_STORE
    max_memory_store: int = 256 * 1024**2
    max_payload: int = 1024**2
    sync_interval: str = "1s"
    default_sentinel: str | None = field(default=None, repr=False)
    cluster: ClusterConfig | None = None
    pid_file: Path | None = None
    log_file: Path | None = None
    log_size_limit: int = 256 * 1024**2
    log_files: int = 16


Value = str | int | bool | Path | tuple[str, ...] | Mapping[str, "Value"]


def render(config: ServerConfig) -> str:
    """Return the text of the configuration file, whose only secret is that of a cluster.

    Raise BridgeError for a listener outside loopback without TLS, and for a value that the file
    cannot express.
    """
    for host in (config.host, config.websocket_host or config.host):
        if config.tls is None and not is_loopback(host):
            raise BridgeError(f"a listener on {host} needs TLS: a certificate and its key")
    if config.cluster is not None:
        _check_cluster(config.cluster)
    settings = _settings(config)
    return "\n".join(_lines(settings)) + "\n"


def _check_cluster(cluster: ClusterConfig) -> None:
    for address in (f"{cluster.host}:{cluster.port}", *cluster.routes):
        host = _host(address)
        if not is_loopback(host) and (cluster.tls is None or cluster.ca is None):
            raise BridgeError(
                f"a route by way of {host} needs TLS: a certificate, its key, and the CA that "
                "signed those of all servers"
            )
    if not all(mark.isalnum() or mark in "-_" for mark in cluster.name):
        raise BridgeError(
            f"{cluster.name!r} is not a name for a cluster: use letters, digits, - and _"
        )


def _host(address: str) -> str:
    """Return the host of `host:port`, or raise BridgeError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise BridgeError(f"{address!r} is not the address of a server: give host:port")
    return host.removeprefix("[").removesuffix("]")


def is_loopback(host: str) -> bool:
    """Return whether only this computer can reach the host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def travels_in_clear(url: str) -> bool:
    """Return whether the traffic to this address is unencrypted and leaves this computer."""
    parts = urlsplit(url)
    return parts.scheme in ("nats", "ws", "http") and not is_loopback(parts.hostname or "")


def _settings(config: ServerConfig) -> dict[str, Value]:
    settings: dict[str, Value] = {
        "server_name": config.server_name,
        "host": config.host,
        "port": config.port,
        "http": f"{_LOOPBACK}:{config.monitor_port}",
        "max_payload": config.max_payload,
        "max_pending": _MAX_PENDING,
        "ping_interval": "15s",
        "ping_max": 2,
        "operator": config.operator_jwt,
        "system_account": config.system_account,
        "resolver": {
            "type": "full",
            "dir": config.resolver_dir,
            "allow_delete": True,
            # How long a server that was down admits users that were revoked meanwhile; the
            # default is 1 min.
            "interval": _SYNC_CLAIMS,
        },
        "resolver_preload": config.preload,
        "jetstream": {
            "strict": True,
            "store_dir": config.store_dir,
            "max_file_store": config.max_file_store,
            "max_memory_store": config.max_memory_store,
            "sync_interval": "always" if config.cluster else config.sync_interval,
            "max_buffered_msgs": _MAX_BUFFERED_MESSAGES,
            "max_buffered_size": _MAX_BUFFERED_BYTES,
        },
        "feature_flags": {"js_ack_fc_v2": False},
    }
    if config.default_sentinel is not None:
        settings["default_sentinel"] = config.default_sentinel
        # The default of 2 s would refuse most of a storm of logins by password.
        settings["authorization"] = {"timeout": 10}
    if config.tls is not None:
        settings["tls"] = _tls(config.tls) | {
            # A client may begin with TLS, as it must behind a firewall that passes nothing else,
            # and so that nobody on the way can talk it out of TLS. It may also wait for INFO.
            "handshake_first": "auto",
            "timeout": _HANDSHAKE_TIMEOUT,
        }
    if config.websocket_port is not None:
        settings["websocket"] = _websocket(config, config.websocket_port)
    if config.cluster is not None:
        settings["cluster"] = _cluster(config.cluster)
        if config.cluster.advertise is not None:
            settings["client_advertise"] = config.cluster.advertise
    if config.pid_file is not None:
        settings["pid_file"] = config.pid_file
    if config.log_file is not None:
        settings["log_file"] = config.log_file
        settings["log_size_limit"] = config.log_size_limit
        settings["logfile_max_num"] = config.log_files
    return settings


def _websocket(config: ServerConfig, port: int) -> dict[str, Value]:
    host = config.websocket_host or config.host
    listener: dict[str, Value] = {"host": host, "port": port}
    behind_proxy = config.websocket_host is not None and is_loopback(config.websocket_host)
    if config.tls is None or behind_proxy:
        return listener | {"no_tls": True}
    return listener | {"tls": _tls(config.tls), "handshake_timeout": _HANDSHAKE_TIMEOUT}


def _cluster(cluster: ClusterConfig) -> dict[str, Value]:
    listener: dict[str, Value] = {
        "name": cluster.name,
        "host": cluster.host,
        "port": cluster.port,
        "authorization": {"user": _ROUTE_USER, "password": cluster.secret, "timeout": 5},
        "routes": tuple(
            f"nats-route://{_ROUTE_USER}:{cluster.secret}@{route}" for route in cluster.routes
        ),
        "no_advertise": cluster.advertise is None,
    }
    if cluster.tls is not None and cluster.ca is not None:
        # On routes both servers verify each other's certificates.
        listener["tls"] = _tls(cluster.tls) | {"ca_file": cluster.ca, "timeout": _HANDSHAKE_TIMEOUT}
    return listener


def _tls(tls: ServerTLS) -> dict[str, Value]:
    return {"cert_file": tls.certificate, "key_file": tls.key, "min_version": "1.2"}


def _lines(settings: Mapping[str, Value], indent: str = "") -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name} {{"
            yield from _lines(value, indent + "  ")
            yield f"{indent}}}"
        else:
            yield f"{indent}{name}: {_literal(value)}"


def _literal(value: str | int | bool | Path | tuple[str, ...]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_quoted, value))}]"
    return _quoted(str(value))


def _quoted(text: str) -> str:
    """Quote a text: in double quotes a backslash is an escape, and no variable is expanded."""
    if not text.isprintable():
        raise BridgeError(f"{text!r} has characters that the server's configuration cannot express")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
