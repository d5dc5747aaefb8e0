"""List what each kind of user may publish and subscribe to."""

from dataclasses import dataclass
from uuid import UUID

from natsbridge.protocol.kinds import DURABLE_TYPES
from natsbridge.protocol.subjects import (
    DEAD_LETTER_PATTERN,
    METRIC_PATTERN,
    tenant_stream_name,
)


@dataclass(frozen=True, slots=True)
class Permissions:
    """The subjects that a user may use. An empty list of allowed subjects allows all."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    never_publish: tuple[str, ...] = ()
    never_subscribe: tuple[str, ...] = ()

    def claim(self) -> dict[str, dict[str, list[str]]]:
        return {
            "pub": _present(allow=self.publish, deny=self.never_publish),
            "sub": _present(allow=self.subscribe, deny=self.never_subscribe),
        }


CALLOUT_SUBJECT = "$SYS.REQ.USER.AUTH"

_MAKE_STREAMS = (
    "$JS.API.STREAM.INFO.*",
    "$JS.API.STREAM.CREATE.*",
    "$JS.API.STREAM.UPDATE.*",
    "$JS.API.CONSUMER.INFO.*.*",
    "$JS.API.CONSUMER.CREATE.*.*",
)

# Creates and compares streams in the platform's account or a tenant's; reads and deletes nothing.
PROVISIONER_PERMISSIONS = Permissions(publish=_MAKE_STREAMS, subscribe=("_INBOX.>",))

_LIST_STREAMS = ("$JS.API.STREAM.LIST", "$JS.API.CONSUMER.LIST.*")

# Compares streams with their declarations, finds undeclared ones, and changes nothing.
INSPECTOR_PERMISSIONS = Permissions(
    publish=("$JS.API.STREAM.INFO.*", "$JS.API.CONSUMER.INFO.*.*", *_LIST_STREAMS),
    subscribe=("_INBOX.>",),
)

# The subscriber's user in the platform's account sends commands, publishes dead letters, consumes
# any stream, and creates one that is missing.
SUBSCRIBER_PERMISSIONS = Permissions(
    publish=(
        "command.*.*",
        DEAD_LETTER_PATTERN,
        *_MAKE_STREAMS,
        "$JS.API.CONSUMER.MSG.NEXT.*.*",
        "$JS.ACK.>",
    ),
    subscribe=(METRIC_PATTERN, "_INBOX.>"),
)

# In the system account: pushes claims, lists connections, and ends them.
SYSTEM_PERMISSIONS = Permissions(
    publish=(
        "$SYS.REQ.CLAIMS.UPDATE",
        "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP",
        "$SYS.REQ.ACCOUNT.*.CONNZ",
        "$SYS.REQ.ACCOUNT.*.JSZ",
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.SERVER.PING.CONNZ",
        "$SYS.REQ.SERVER.*.CONNZ",
        "$SYS.REQ.SERVER.*.KICK",
    ),
    subscribe=("_INBOX.>", "$SYS.ACCOUNT.*.CONNECT", "$SYS.ACCOUNT.*.DISCONNECT"),
)


# In the system account: lists the servers.
SERVER_LIST_PERMISSIONS = Permissions(publish=("$SYS.REQ.SERVER.PING",), subscribe=("_INBOX.>",))

# In the account of the auth callout: hears the servers' questions, and answers them.
CALLOUT_PERMISSIONS = Permissions(publish=("$SYS._INBOX.>",), subscribe=(CALLOUT_SUBJECT,))

NOTHING = Permissions(never_publish=(">",), never_subscribe=(">",))


def recreating_permissions(stream: str, consumer: str | None) -> Permissions:
    """Return the provisioner's permissions, and that to delete one stream or one consumer of it."""
    order = (
        f"STREAM.DELETE.{stream}" if consumer is None else f"CONSUMER.DELETE.{stream}.{consumer}"
    )
    return Permissions(publish=(*_MAKE_STREAMS, f"$JS.API.{order}"), subscribe=("_INBOX.>",))


def device_permissions(tenant: UUID) -> Permissions:
    own = f"tenant.{tenant}.device.{{{{name()}}}}"
    return Permissions(
        publish=(
            *(f"{own}.{kind}" for kind in DURABLE_TYPES),
            "demo.system.{{name()}}.*",
        ),
        subscribe=(f"{own}.command", "_INBOX_{{name()}}.>"),
    )


def tenant_permissions(tenant: UUID) -> Permissions:
    space = f"tenant.{tenant}.>"
    stream = tenant_stream_name(tenant)
    return Permissions(
        publish=(
            space,
            f"$JS.API.STREAM.INFO.{stream}",
            # Not DIRECT.GET: it sends the bare message to any reply subject, and the server does
            # not check the reply subject of a request against these permissions.
            f"$JS.API.STREAM.MSG.GET.{stream}",
        ),
        subscribe=(space, "_INBOX.>"),
        # A command without a row would have no author.
        never_publish=(f"tenant.{tenant}.device.*.command",),
    )


def replay_permissions(tenant: UUID) -> Permissions:
    """Return the permission to read the tenant's own stream, and nothing else."""
    stream = tenant_stream_name(tenant)
    return Permissions(publish=(f"$JS.API.STREAM.MSG.GET.{stream}",), subscribe=("_INBOX.>",))


def _present(**lists: tuple[str, ...]) -> dict[str, list[str]]:
    return {name: list(subjects) for name, subjects in lists.items() if subjects}
