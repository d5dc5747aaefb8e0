"""The nats-server configuration, rendered from a few values.

Everything the server is told is here, with the reason where the server's default would be wrong
for this platform. What may change while it runs (the accounts) is not in the file: it is pushed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from natsbridge.errors import BridgeError

_GIGABYTE = 1024**3
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ServerTLS:
    """Files of the server's certificate and key, in PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One server. Sizes are bytes, `sync_interval` is a duration as nats-server spells it.

    `preload` maps the keys of the accounts the server must know before anybody can push (the
    system's and the platform's) to their JWTs; a newer one that was pushed wins over it.
    `max_file_store` has to hold what the streams of all accounts reserve, not what they use.
    `sync_interval` is for the whole server: a power cut loses what was acknowledged since the
    last one; "always" loses nothing and costs one fsync a message.
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
    tls: ServerTLS | None = None
    max_file_store: int = 64 * _GIGABYTE
    max_memory_store: int = 256 * 1024**2
    max_payload: int = 1024**2
    sync_interval: str = "1s"
    pid_file: Path | None = None


Value = str | int | bool | Path | Mapping[str, "Value"]


def render(config: ServerConfig) -> str:
    """The text of the configuration file. It holds no secret.

    Raises BridgeError for a listener outside loopback without TLS, and for a value that cannot
    stand in the file.
    """
    if config.tls is None and config.host not in (_LOOPBACK, "localhost", "::1"):
        raise BridgeError(f"a listener on {config.host} needs TLS")
    settings = _settings(config)
    return "\n".join(_lines(settings)) + "\n"


def _settings(config: ServerConfig) -> dict[str, Value]:
    settings: dict[str, Value] = {
        "server_name": config.server_name,
        "host": config.host,
        "port": config.port,
        "http": f"{_LOOPBACK}:{config.monitor_port}",
        "max_payload": config.max_payload,
        "ping_interval": "15s",
        "ping_max": 2,
        "operator": config.operator_jwt,
        "system_account": config.system_account,
        "resolver": {
            "type": "full",
            "dir": config.resolver_dir,
            "allow_delete": True,
        },
        "resolver_preload": config.preload,
        "jetstream": {
            "strict": True,
            "store_dir": config.store_dir,
            "max_file_store": config.max_file_store,
            "max_memory_store": config.max_memory_store,
            "sync_interval": config.sync_interval,
        },
        "feature_flags": {"js_ack_fc_v2": False},
    }
    if config.tls is not None:
        settings["tls"] = _tls(config.tls)
    if config.websocket_port is not None:
        settings["websocket"] = _websocket(config, config.websocket_port)
    if config.pid_file is not None:
        settings["pid_file"] = config.pid_file
    return settings


def _websocket(config: ServerConfig, port: int) -> dict[str, Value]:
    listener: dict[str, Value] = {"host": config.host, "port": port}
    if config.tls is None:
        return listener | {"no_tls": True}
    return listener | {"tls": _tls(config.tls)}


def _tls(tls: ServerTLS) -> dict[str, Value]:
    return {"cert_file": tls.certificate, "key_file": tls.key}


def _lines(settings: Mapping[str, Value], indent: str = "") -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name} {{"
            yield from _lines(value, indent + "  ")
            yield f"{indent}}}"
        else:
            yield f"{indent}{name}: {_literal(value)}"


def _literal(value: str | int | bool | Path) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return _quoted(str(value))


def _quoted(text: str) -> str:
    """In double quotes nats-server reads a backslash as an escape and expands no variable."""
    if not text.isprintable():
        raise BridgeError(f"{text!r} cannot stand in the server's configuration")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
