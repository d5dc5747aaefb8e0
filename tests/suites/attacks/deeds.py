"""What the attack suite is made of: who tries, what is tried, and what may come of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum


class Outcome(StrEnum):
    """`UNHEARD`: the broker took it, and nobody heard or missed anything. `SEALED`: it is heard,
    but only the callout's curve key opens it. `LEAKED` is never expected: something reached one
    who must not have it, or missed one who must."""

    NO_LOGIN = "no login"
    REFUSED = "refused"
    UNHEARD = "unheard"
    PUB_ACK = "PubAck only"
    SEALED = "sealed"
    ALLOWED = "allowed"
    LEAKED = "leaked"


class Credential(Enum):
    DEVICE = "device"
    TENANT = "tenant"
    REVOKED = "revoked"
    EXPIRED = "expired"
    SUSPENDED = "suspended"
    FOREIGN = "foreign"
    NONE = "none"
    DEVICE_PASSWORD = "device password"
    TENANT_PASSWORD = "tenant password"
    WRONG_PASSWORD = "wrong password"
    OTHERS_PASSWORD = "another's password"
    REVOKED_PASSWORD = "revoked password"
    SUSPENDED_PASSWORD = "suspended password"
    SENTINEL = "sentinel"
    CALLOUT_NAME = "callout's name"
    CALLOUT = "callout"


DEVICES = (Credential.DEVICE, Credential.DEVICE_PASSWORD)
TENANTS = (Credential.TENANT, Credential.TENANT_PASSWORD)
ADMITTED = (*DEVICES, *TENANTS, Credential.CALLOUT)


@dataclass(frozen=True, slots=True)
class Actor:
    """`device`, `sibling` and `other` name devices by their tenant's letter and a number."""

    name: str
    credential: Credential
    device: str
    sibling: str
    other: str

    @property
    def tenant(self) -> str:
        return self.device[0]


ACTORS = (
    Actor("device A1", Credential.DEVICE, "A1", "A2", "B1"),
    Actor("device A2", Credential.DEVICE, "A2", "A1", "B1"),
    Actor("device B1", Credential.DEVICE, "B1", "B2", "A1"),
    Actor("device A1 by password", Credential.DEVICE_PASSWORD, "A1", "A2", "B1"),
    Actor("tenant A", Credential.TENANT, "A1", "A2", "B1"),
    Actor("tenant B", Credential.TENANT, "B1", "B2", "A1"),
    Actor("tenant A by password", Credential.TENANT_PASSWORD, "A1", "A2", "B1"),
    Actor("callout's user, leaked", Credential.CALLOUT, "A1", "A2", "B1"),
    Actor("revoked device", Credential.REVOKED, "A3", "A1", "B1"),
    Actor("expired device", Credential.EXPIRED, "A3", "A1", "B1"),
    Actor("suspended tenant's device", Credential.SUSPENDED, "C1", "C2", "A1"),
    Actor("foreign operator's user", Credential.FOREIGN, "A1", "A2", "B1"),
    Actor("no credential", Credential.NONE, "A1", "A2", "B1"),
    Actor("sentinel's JWT", Credential.SENTINEL, "A1", "A2", "B1"),
    Actor("callout's user by name", Credential.CALLOUT_NAME, "A1", "A2", "B1"),
    Actor("wrong password", Credential.WRONG_PASSWORD, "A1", "A2", "B1"),
    Actor("another device's password", Credential.OTHERS_PASSWORD, "A1", "A2", "B1"),
    Actor("revoked password", Credential.REVOKED_PASSWORD, "A1", "A2", "B1"),
    Actor("suspended tenant's password", Credential.SUSPENDED_PASSWORD, "C1", "C2", "A1"),
)


@dataclass(frozen=True, slots=True)
class Publish:
    """Allowed if the platform hears it, or else with `local` if the actor's own account does."""

    subject: str
    local: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Allowed if it hears something while everybody talks."""

    subject: str
    queue: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """Allowed if it is answered, and not with an error."""

    subject: str
    body: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A report of its own with these headers; refused if the stream answers with an error."""

    headers: Mapping[str, str]
    kind: str = "response"


@dataclass(frozen=True, slots=True)
class Divert:
    """A report of its own whose reply subject is somebody else's; what arrives there counts."""

    reply: str


@dataclass(frozen=True, slots=True)
class Swallow:
    """A report with the `Nats-Msg-Id` that another tenant's device sends `seconds` later.

    Allowed if that other report is then missing in the stream.
    """

    seconds: float
    kind: str = "response"


@dataclass(frozen=True, slots=True)
class Peek:
    """A report that its stream must turn down, for what the reason says of another tenant's last.

    Allowed if the reason says that report's `Nats-Msg-Id` or sequence.
    """

    headers: Mapping[str, str]
    kind: str = "response"


@dataclass(frozen=True, slots=True)
class Login:
    """At the listener for `client`, `websocket` or `leaf node`; or at that for websockets as a
    `leaf node by websocket`, or with `mqtt`, which is off."""

    listener: str


@dataclass(frozen=True, slots=True)
class Pose:
    """Logs in with its own credential and says in the CONNECT that it is somebody else; allowed if
    the platform then reads in the broker's event that the other has come."""

    name: str


@dataclass(frozen=True, slots=True)
class Eavesdrop:
    """Listens for what the server asks the callout while somebody logs in by password."""

    queue: str = ""


@dataclass(frozen=True, slots=True)
class Gainsay:
    """Answers in the callout's stead, and sooner; allowed if who has the right password is then
    refused."""


Deed = (
    Publish
    | Subscribe
    | Request
    | Report
    | Divert
    | Swallow
    | Peek
    | Login
    | Pose
    | Eavesdrop
    | Gainsay
)


@dataclass(frozen=True, slots=True)
class Attack:
    """A row: what is tried, and what comes of it for a device, for a tenant's credential and for
    the callout's user.

    Everybody else is not admitted to try.
    """

    name: str
    deed: Deed
    device: Outcome
    tenant: Outcome
    callout: Outcome = Outcome.REFUSED

    def expected(self, actor: Actor) -> Outcome:
        if actor.credential in DEVICES:
            return self.device
        if actor.credential in TENANTS:
            return self.tenant
        if actor.credential is Credential.CALLOUT:
            return self.callout
        return Outcome.NO_LOGIN
