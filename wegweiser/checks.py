"""System checks of the settings: what is wrong, and what would be right."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from natsbridge.client.tls import check_ca
from natsbridge.errors import BridgeError
from natsbridge.jetstream.declaration_settings import all_streams
from natsbridge.jetstream.declarations import INGEST, LATEST, most_of_one_device
from natsbridge.server.config import travels_in_clear

OUR_APPS = ("natsbridge", "tenants", "devices")


@register("wegweiser")
def settings_are_usable(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    return [
        Error(problem.message, hint=problem.hint, id="wegweiser.E001")
        for problem in settings.ENVIRONMENT.problems
    ]


@register("wegweiser")
def secrets_are_set(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    messages: list[CheckMessage] = []
    if settings.SECRET_KEY.startswith("unsafe-"):
        messages.append(
            Warning(
                "SECRET_KEY is not set.",
                hint="Sessions and tokens are only safe with 50 random characters of your own.",
                id="wegweiser.W001",
            )
        )
    if not settings.FIELD_ENCRYPTION_KEYS:
        messages.append(
            Warning(
                "FIELD_ENCRYPTION_KEY is not set; broker keys cannot be stored.",
                hint=f"Generate one: {FERNET_HINT}",
                id="wegweiser.W002",
            )
        )
    if not settings.ENVIRONMENT.text("AUDIT_KEY"):
        messages.append(
            Warning(
                "AUDIT_KEY is not set; SECRET_KEY seals the audit.",
                hint="With a key of its own, the audit outlasts a change of SECRET_KEY.",
                id="wegweiser.W004",
            )
        )
    messages += [
        Error(
            f"FIELD_ENCRYPTION_KEY: {error}",
            hint=f"Give 32 bytes, url-safe base64. Generate one: {FERNET_HINT}",
            id="wegweiser.E002",
        )
        for error in map(_key_error, settings.FIELD_ENCRYPTION_KEYS)
        if error
    ]
    return messages


@register("wegweiser")
def no_device_can_fill_what_all_share(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    return [
        Warning(
            f"One device can fill the stream {stream.name}.",
            hint=f"{stream.name}_MAX_BYTES should be more than {most_of_one_device(stream)}, or "
            "DEVICE_MESSAGE_BYTES smaller.",
            id="wegweiser.W005",
        )
        for stream in all_streams()
        if stream.name in (INGEST, LATEST)
        and most_of_one_device(stream) > (stream.config.max_bytes or 0)
    ]


@register("wegweiser")
def limits_are_in_order(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if settings.ONLINE_SECONDS < settings.STALE_SECONDS:
        return []
    return [
        Error(
            "ONLINE_SECONDS is not below STALE_SECONDS.",
            hint="A device is online first, then stale, then offline: 120 and 600, say.",
            id="wegweiser.E003",
        )
    ]


@register("wegweiser")
def what_leaves_this_computer_is_encrypted(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    plain = {
        name: address
        for name in ("NATS_URL", "AGENT_NATS_URL", "PUBLIC_URL")
        for address in getattr(settings, name).split(",")
        if travels_in_clear(address)
    }
    return [
        Warning(
            f"{name} is not encrypted: {urlsplit(address).hostname}.",
            hint="Give a tls://, wss:// or https:// address; agents refuse others, unless they "
            "are started with --insecure.",
            id="wegweiser.W003",
        )
        for name, address in plain.items()
    ]


@register("wegweiser")
def servers_of_the_broker_are_of_one_kind(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if len({urlsplit(address).scheme for address in settings.NATS_URL.split(",")}) == 1:
        return []
    return [
        Error(
            "NATS_URL mixes addresses of different kinds.",
            hint="Give all servers of a cluster as tls://host:port, say, separated by commas.",
            id="wegweiser.E005",
        )
    ]


@register("wegweiser")
def the_ca_is_usable(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if settings.NATS_CA_FILE is None:
        return []
    try:
        check_ca(settings.NATS_CA_FILE)
    except BridgeError as error:
        return [
            Error(
                f"NATS_CA_FILE: {error}.",
                hint="Give the CA's certificate, or none to trust what the system trusts.",
                id="wegweiser.E004",
            )
        ]
    return []


@register(Tags.database)
def the_database_is_of_this_release(
    app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Look for migrations that are applied and not known here, before `migrate` adds its own."""
    if not databases:
        return []
    applied = MigrationRecorder(connection).applied_migrations()
    known = MigrationLoader(None).disk_migrations
    strange = sorted(key for key in applied if key[0] in OUR_APPS and key not in known)
    if not strange:
        return []
    return [
        Error(
            f"The database is of another release: {'.'.join(strange[0])} is unknown here.",
            hint="Start this release with a new database, or go back to the one that made it; "
            "what is from before 0.1.0 cannot be carried over.",
            id="wegweiser.E006",
        )
    ]


FERNET_HINT = (
    'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'
)


def _key_error(key: str) -> str:
    try:
        Fernet(key)
    except ValueError as error:
        return str(error)
    return ""
