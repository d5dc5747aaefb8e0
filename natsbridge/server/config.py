"""The nats-server configuration, rendered from a few values.

Everything the server is told is here, with the reason where the server's default would be wrong
for this platform. What may change while it runs (the accounts) is not in the file: it is pushed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from natsbridge.errors import BridgeError

_GIGABYTE = 1024**3
# What all streams of a server may reserve together.
MAX_FILE_STORE = 64 * _GIGABYTE
_LOOPBACK = "127.0.0.1"
# A client that does not read may have so much wait for it. Our own subscriber is one that reads up
# to 10 MB/s and may pause for two seconds; the server's default of 64 MB would let a few dozen deaf
# connections of one credential take gigabytes.
_MAX_PENDING = 20 * 1024**2
# The default of 2 s is short for a slow link, and when all agents come back at once.
_HANDSHAKE_TIMEOUT = "10s"
_ROUTE_USER = "route"
# What may wait for one stream to write it; beyond it everybody who writes there is refused (429).
# A device that sends 100,000 messages a second is ended within two seconds: until then it must not
# have its neighbours refused, which the default of 100,000 would not do.
_MAX_BUFFERED_MESSAGES = 500_000
_MAX_BUFFERED_BYTES = 256 * 1024**2
# Between servers only hashes pass, as long as they have the same claims.
_SYNC_CLAIMS = "2s"


@dataclass(frozen=True, slots=True)
class ServerTLS:
    """Files of the server's certificate and key, in PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """The cluster that a server belongs to. `routes` are the addresses, as `host:port`, of all its
    servers or of some; the server's own may be among them.

    A server that joins sees every account, so each must bring `secret`, the same for all, and
    outside loopback a certificate of `ca`, which had better sign nothing else.
    `advertise` is the address that clients are told of for this server, as `host:port`; without
    it they are told none, since the one that they find out need not be the certificate's.
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
    """One server. Sizes are bytes, `sync_interval` is a duration as nats-server spells it.

    `preload` maps the keys of the accounts the server must know before anybody can push (the
    system's and the platform's) to their JWTs; a newer one that was pushed wins over it.
    `max_file_store` has to hold what the streams of all accounts reserve, not what they use.
    `sync_interval` is for the whole server: a power cut loses what was acknowledged since the
    last one; "always" loses nothing and costs one fsync a message. In a cluster, where many
    messages share one fsync, it is always "always".
    `websocket_host` is for a proxy that ends TLS: on loopback it has none. Otherwise the websocket
    listener is where the other one is, with the same certificate.
    A log file is set aside when it has grown to `log_size_limit`; `log_files` are kept in all. One
    client can have 37 MB a second written there (tried), a line for each publish it may not make.
    `default_sentinel` is the bearer JWT with which the server takes everybody who brings none to
    the auth callout.
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
    """The text of the configuration file. It holds no secret but a cluster's.

    Raises BridgeError for a listener outside loopback without TLS, and for a value that cannot
    stand in the file.
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
        raise BridgeError(f"{cluster.name!r} is no name for a cluster")


def _host(address: str) -> str:
    """Raises BridgeError unless it is `host:port`."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise BridgeError(f"{address!r} is no address of a server: give host:port")
    return host.removeprefix("[").removesuffix("]")


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def travels_in_clear(url: str) -> bool:
    """Whether others on the way to this address can read and change what is said."""
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
            # How long one that was down lets in who was revoked meanwhile; the default is 1 min.
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
            # A client that begins with TLS, as it must where a firewall passes nothing else and
            # where nobody on the way may talk it out of TLS, is let in; so is one that waits.
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
        # Of routes the server asks for certificates both ways.
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
    """In double quotes nats-server reads a backslash as an escape and expands no variable."""
    if not text.isprintable():
        raise BridgeError(f"{text!r} cannot stand in the server's configuration")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
