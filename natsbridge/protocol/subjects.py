"""Build and parse subjects: device identity comes from them, never from a payload.

Inside a tenant's account devices publish `tenant.{tenant}.device.{device}.{kind}` and
`demo.system.{device}.{metric}`. In the platform's account the same messages arrive under
`ingest.{account key}.`, a prefix that the broker writes and no publisher can choose.
"""

from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from natsbridge.errors import InvalidSubject
from natsbridge.protocol.kinds import KINDS, Transport, message_types

DEVICE_PATTERN = "tenant.{tenant_uuid}.device.{device_uuid}.{message_type}"
INGEST_EXPORT = "ingest.*.>"
COMMAND_EXPORT = "command.*.>"
INGEST_PATTERNS = tuple(
    f"ingest.*.tenant.*.device.*.{name}" for name in message_types(Transport.EVERY)
)
LATEST_PATTERNS = tuple(
    f"ingest.*.tenant.*.device.*.{name}" for name in message_types(Transport.NEWEST)
)
DEAD_LETTER_PATTERN = "dlq.>"
METRIC_PATTERN = "ingest.*.demo.system.*.*"
# Connects and disconnects of clients, as the platform imports them from the system account.
BROKER_EVENTS = ("connect", "disconnect")
BROKER_PATTERNS = tuple(f"broker.*.{event}" for event in BROKER_EVENTS)
# The server names this account for a connection that has not logged in.
UNAUTHENTICATED = "$G"

# The name of the kind, by the last part of the subject.
_KIND_NAMES = {
    kind.name: kind.alias_of or kind.name
    for kind in KINDS
    if kind.transport in (Transport.EVERY, Transport.NEWEST)
}
_DEVICE_TYPES = frozenset((*_KIND_NAMES, *message_types(Transport.TO_DEVICE)))
_ACCOUNT_KEY_LENGTH = 56
_LONGEST_METRIC_TYPE = 64


class IngestSubject(NamedTuple):
    """The sender of a durable message, as the broker has verified, and the name of its kind.

    Where the subject has an alias, `kind` is the kind that it stands for.
    """

    account: str
    tenant: UUID
    device: UUID
    kind: str


class BrokerSubject(NamedTuple):
    """The account in which a client connected or disconnected; see UNAUTHENTICATED."""

    account: str
    event: str


class MetricSubject(NamedTuple):
    """The account that published a live metric, and the device that it names, unverified."""

    account: str
    device: UUID
    metric_type: str


def device_subject(tenant: UUID, device: UUID, message_type: str) -> str:
    """Return the subject of one type of message of a device, inside its tenant's account."""
    if message_type not in _DEVICE_TYPES:
        raise InvalidSubject(f"{message_type!r} is not a message type")
    return f"tenant.{_text(tenant)}.device.{_text(device)}.{message_type}"


def device_subjects(tenant: UUID, device: UUID) -> dict[str, str]:
    """Return the subjects that an agent needs, by message kind.

    In that of the metrics the agent replaces `{metric_type}` by the name of the metric.
    """
    return {
        kind.plural or kind.name: f"demo.system.{_text(device)}.{{metric_type}}"
        if kind.transport is Transport.LIVE
        else device_subject(tenant, device, kind.name)
        for kind in KINDS
        if not kind.alias_of
    }


def device_wildcards(tenant: UUID, device: UUID) -> dict[str, str]:
    """Return, by what it takes in, each wildcard that takes in the device's own subjects."""
    whole = f"tenant.{_text(tenant)}"
    return {
        "device": f"{whole}.device.{_text(device)}.>",
        "tenant_devices": f"{whole}.device.>",
        "tenant": f"{whole}.>",
    }


def command_export(account_public: str, device: UUID) -> str:
    """Return the subject on which the platform publishes a command for a device of that account."""
    return f"command.{_account(account_public)}.{_text(device)}"


def device_inbox(device: UUID) -> str:
    """Return the inbox prefix of a device's client, where no other user may listen."""
    return f"_INBOX_{_text(device)}"


def tenant_stream_name(tenant: UUID) -> str:
    """Return the name of the one stream in a tenant's own account.

    It has underscores in place of hyphens, so that every tool takes it for one word.
    """
    return f"TENANT_{_text(tenant).replace('-', '_')}_DEVICES"


def parse_ingest(subject: str) -> IngestSubject:
    """Parse `ingest.{account}.tenant.{tenant}.device.{device}.{kind}`, or raise InvalidSubject."""
    parts = subject.split(".", 6)
    if len(parts) != 7:
        raise InvalidSubject("not a device's subject")
    ingest, account, tenant_word, tenant, device_word, device, message_type = parts
    if ingest != "ingest" or tenant_word != "tenant" or device_word != "device":
        raise InvalidSubject("not a device's subject")
    kind = _KIND_NAMES.get(message_type)
    if kind is None:
        raise InvalidSubject("unknown message type")
    return IngestSubject(_account(account), _uuid(tenant), _uuid(device), kind)


def parse_metric(subject: str) -> MetricSubject:
    """Parse `ingest.{account}.demo.system.{device}.{metric_type}`, or raise InvalidSubject."""
    parts = subject.split(".")
    if len(parts) != 6:
        raise InvalidSubject("not a metric's subject")
    ingest, account, demo, system, device, metric_type = parts
    if ingest != "ingest" or demo != "demo" or system != "system":
        raise InvalidSubject("not a metric's subject")
    return MetricSubject(_account(account), _uuid(device), _metric_type(metric_type))


def parse_broker(subject: str) -> BrokerSubject:
    """Parse `broker.{account}.connect` or `.disconnect`, or raise InvalidSubject."""
    parts = subject.split(".")
    if len(parts) != 3 or parts[0] != "broker" or parts[2] not in BROKER_EVENTS:
        raise InvalidSubject("not a subject of a broker event")
    return BrokerSubject(parts[1] if parts[1] == UNAUTHENTICATED else _account(parts[1]), parts[2])


def dead_letter_subject(subject: str, reason: str) -> str:
    """Build `dlq.{account}.{reason}` for a message that came on `subject`.

    Naming the account gives each a share of the queue of its own.
    """
    parts = subject.split(".", 2)
    try:
        account = _account(parts[1])
    except (IndexError, InvalidSubject):
        account = "unknown"
    word = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in reason)
    return f"dlq.{account}.{word[:40] or 'unknown'}"


def account_of_dead_letter(subject: str) -> str:
    """Return the account key that a dead letter's subject names; empty if it is unknown."""
    account = subject.split(".")[1]
    return "" if account == "unknown" else account


def _text(identity: UUID) -> str:
    """Refuse anything but a UUID: a `*` passed as text would address every device."""
    if not isinstance(identity, UUID):
        raise InvalidSubject(f"{identity!r} is not a UUID")
    return str(identity)


# The three below are cached because a fleet's tokens come again and again: a UUID costs 1.5 µs to
# parse and 0.1 µs to look up. A refused token is not cached, so it displaces nothing. The reasons
# name no token, so that they can be counted.


@lru_cache(maxsize=65_536)
def _uuid(token: str) -> UUID:
    """Accept only the canonical spelling: anything that compares text takes two for two devices."""
    try:
        value = UUID(token)
    except ValueError:
        raise InvalidSubject("not a valid UUID") from None
    if str(value) != token:
        raise InvalidSubject("not the canonical form of a UUID")
    return value


@lru_cache(maxsize=8_192)
def _account(token: str) -> str:
    well_formed = len(token) == _ACCOUNT_KEY_LENGTH and token.isascii() and token.isalnum()
    if not well_formed or token[0] != "A" or token != token.upper():
        raise InvalidSubject("not an account key")
    return token


@lru_cache(maxsize=1_024)
def _metric_type(token: str) -> str:
    bare = token.replace("_", "").replace("-", "")
    if not 0 < len(token) <= _LONGEST_METRIC_TYPE or not (
        token.isascii() and (bare.isalnum() or not bare)
    ):
        raise InvalidSubject("not a metric type")
    return token
