"""Print the configuration of a nats-server that trusts this installation's operator."""

import dataclasses
import re
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from natsbridge.client.tls import check_ca, check_pair
from natsbridge.errors import BridgeError
from natsbridge.management.base import PlainCommand
from natsbridge.server.config import ClusterConfig, ServerConfig, ServerTLS, render
from tenants.broker.accounts import ensure_platform_keys
from tenants.broker.server import route_secret, server_config
from tenants.errors import TenantsError

_LOOPBACK = "127.0.0.1"
_WEBSOCKET_PORT = 9222
_UNITS = {"": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}


class Command(PlainCommand):
    help = (
        "Print a nats-server configuration, and create the platform's keys if there are none. "
        "Every listener that other computers can reach needs a certificate."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--production",
            action="store_true",
            help="listen on all addresses with TLS, also for websockets, and log to a file",
        )
        parser.add_argument(
            "--server-name", help="default: wegweiser; in a cluster each server has its own"
        )
        parser.add_argument("--host", help=f"default: {_LOOPBACK}, in production 0.0.0.0")
        parser.add_argument(
            "--port", type=_port, default=4222, help="the port for clients; may be 443"
        )
        parser.add_argument("--monitor-port", type=_port, default=8222, help="always on loopback")
        parser.add_argument(
            "--certificate", type=_file, metavar="FILE", help="the certificate chain in PEM"
        )
        parser.add_argument("--key", type=_file, metavar="FILE", help="its private key in PEM")
        websocket = parser.add_argument_group("websocket listener")
        websocket.add_argument(
            "--websocket-port",
            type=_port,
            help=f"may be 443; default: none, in production {_WEBSOCKET_PORT}",
        )
        websocket.add_argument(
            "--websocket-host",
            help=f"default: that of --host; use {_LOOPBACK} behind a proxy that terminates TLS",
        )
        parser.add_argument(
            "--directory",
            "--store",
            type=_file,
            help="where the server stores its streams and accounts; default: WEGWEISER_HOME/nats, "
            "in a cluster WEGWEISER_HOME/nats-SERVER_NAME",
        )
        parser.add_argument("--max-file-store", type=_size, metavar="SIZE", help="such as 200GB")
        parser.add_argument(
            "--sync-interval",
            type=_interval,
            default="1s",
            help="how much a power cut may lose; `always`, which a cluster always uses, costs one "
            "fsync a message on a single server",
        )
        parser.add_argument(
            "--log-file",
            metavar="FILE",
            help="default: standard error, in production nats-server.log in the directory; `-`: "
            "standard error",
        )
        parser.add_argument(
            "--log-size-limit",
            type=_size,
            metavar="SIZE",
            help="the size of each log file; default: 256MB",
        )
        parser.add_argument(
            "--log-files",
            type=_count,
            metavar="NUMBER",
            help="how many log files are kept, with the current one; default: 16",
        )
        parser.add_argument("--out", type=_file, metavar="FILE", help="default: standard output")
        _add_cluster_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            tls = _tls(options)
            cluster = _cluster(options, tls)
            ensure_platform_keys()
            if cluster is not None:
                cluster = dataclasses.replace(cluster, secret=route_secret())
            text = render(_config(options, tls, cluster))
        except (TenantsError, BridgeError) as error:
            raise CommandError(str(error)) from error
        if options["out"] is None:
            self.stdout.write(text)
        else:
            _write(options["out"], text, mode=0o600 if options["cluster_listen"] else 0o644)


def _add_cluster_arguments(parser: ArgumentParser) -> None:
    cluster = parser.add_argument_group(
        "cluster", "One of several servers, usually three. Render a file for each of them."
    )
    cluster.add_argument("--cluster-name", default="wegweiser", help="the same for all servers")
    cluster.add_argument(
        "--cluster-listen", metavar="HOST:PORT", help="where the other servers connect"
    )
    cluster.add_argument(
        "--routes",
        metavar="HOST:PORT,...",
        help="the --cluster-listen of the others, as reached from here",
    )
    cluster.add_argument(
        "--cluster-certificate", type=_file, metavar="FILE", help="default: --certificate"
    )
    cluster.add_argument("--cluster-key", type=_file, metavar="FILE", help="default: --key")
    cluster.add_argument(
        "--cluster-ca",
        type=_file,
        metavar="FILE",
        help="the CA that signed the certificates of all servers",
    )
    cluster.add_argument(
        "--advertise",
        metavar="HOST:PORT",
        help="the address of this server that clients are told; default: none",
    )


def _config(
    options: dict[str, Any], tls: ServerTLS | None, cluster: ClusterConfig | None
) -> ServerConfig:
    production: bool = options["production"]
    server_name = options["server_name"] or "wegweiser"
    own_folder = f"nats-{server_name}" if cluster else "nats"
    directory: Path = options["directory"] or settings.WEGWEISER_HOME / own_folder
    config = server_config(
        server_name=server_name,
        port=options["port"],
        monitor_port=options["monitor_port"],
        directory=directory,
    )
    log_file = options["log_file"] or (directory / "nats-server.log" if production else "-")
    limits = ("max_file_store", "log_size_limit", "log_files")
    sizes = {name: options[name] for name in limits if options[name]}
    return dataclasses.replace(
        config,
        host=options["host"] or ("0.0.0.0" if production else _LOOPBACK),  # noqa: S104 - with TLS
        websocket_port=options["websocket_port"] or (_WEBSOCKET_PORT if production else None),
        websocket_host=options["websocket_host"],
        tls=tls,
        sync_interval=options["sync_interval"],
        cluster=cluster,
        log_file=None if log_file == "-" else Path(log_file).absolute(),
        **sizes,
    )


def _tls(options: dict[str, Any]) -> ServerTLS | None:
    """Return the certificate of the listeners, if any. Raises CommandError or BridgeError."""
    certificate, key = options["certificate"], options["key"]
    if certificate is None and key is None and not options["production"]:
        return None
    if certificate is None or key is None:
        raise CommandError("--certificate and --key are both required.")
    check_pair(certificate, key)
    return ServerTLS(certificate, key)


def _cluster(options: dict[str, Any], tls: ServerTLS | None) -> ClusterConfig | None:
    """Return the cluster, if any, without its secret. Raises CommandError or BridgeError."""
    listen, routes = options["cluster_listen"], options["routes"]
    if listen is None and routes is None:
        return None
    if not (listen and routes and options["server_name"]):
        raise CommandError("A cluster needs --cluster-listen, --routes and --server-name.")
    certificate, key = options["cluster_certificate"], options["cluster_key"]
    if certificate is not None and key is not None:
        check_pair(certificate, key)
        tls = ServerTLS(certificate, key)
    elif certificate is not None or key is not None:
        raise CommandError("--cluster-certificate and --cluster-key need each other.")
    if options["cluster_ca"] is not None:
        check_ca(options["cluster_ca"])
    host, _, port = listen.rpartition(":")
    try:
        return ClusterConfig(
            name=options["cluster_name"],
            host=host.removeprefix("[").removesuffix("]"),
            port=_port(port),
            routes=tuple(each.strip() for each in routes.split(",") if each.strip()),
            secret="",
            tls=tls,
            ca=options["cluster_ca"],
            advertise=options["advertise"],
        )
    except ArgumentTypeError as error:
        raise CommandError(f"--cluster-listen: {error}.") from error


def _write(file: Path, text: str, *, mode: int) -> None:
    """Replace the file as a whole, since a server may reload it at any time."""
    new = file.with_name(file.name + ".new")
    try:
        new.touch(mode=mode)
        new.chmod(mode)
        new.write_text(text)
        new.replace(file)
    except OSError as error:
        raise CommandError(f"Cannot write {file}: {error.strerror}") from error


def _file(text: str) -> Path:
    return Path(text).absolute()


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


def _size(text: str) -> int:
    parts = re.fullmatch(r"(\d+)\s*([KMGT]B|)", text.strip().upper())
    if parts is None or not int(parts[1]):
        raise ArgumentTypeError(f"{text!r} is not a size such as 64MB or 200GB")
    return int(parts[1]) * _UNITS[parts[2]]


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _interval(text: str) -> str:
    if text != "always" and not re.fullmatch(r"[1-9]\d*(ms|s|m)", text):
        raise ArgumentTypeError(f"{text!r} is neither `always` nor an interval such as 1s")
    return text
