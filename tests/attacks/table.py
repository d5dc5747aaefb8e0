"""The attack suite as data: who tries what at the broker, and what comes of it.

Subjects are templates, read from where the actor stands: `{tenant}`, `{account}`, `{stream}` and
`{inbox}` are its own tenant's or its own, `{device}` is itself (for a tenant's credential: one of
its devices), `{sibling}` another device of the same tenant, and `{other_tenant}`,
`{other_account}`, `{other_stream}` and `{other_device}` belong to somebody else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from natsbridge.subjects import DURABLE_KINDS


class Outcome(StrEnum):
    """`UNHEARD`: the broker took it, and nobody heard or missed anything. `LEAKED` is never
    expected: something reached one who must not have it, or missed one who must."""

    NO_LOGIN = "no login"
    REFUSED = "refused"
    UNHEARD = "unheard"
    PUB_ACK = "PubAck only"
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
    Actor("tenant A", Credential.TENANT, "A1", "A2", "B1"),
    Actor("tenant B", Credential.TENANT, "B1", "B2", "A1"),
    Actor("revoked device", Credential.REVOKED, "A3", "A1", "B1"),
    Actor("expired device", Credential.EXPIRED, "A3", "A1", "B1"),
    Actor("suspended tenant's device", Credential.SUSPENDED, "C1", "C2", "A1"),
    Actor("foreign operator's user", Credential.FOREIGN, "A1", "A2", "B1"),
    Actor("no credential", Credential.NONE, "A1", "A2", "B1"),
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
    """A report of its own with these headers; refused if INGEST answers with an error."""

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Divert:
    """A report of its own whose reply subject is somebody else's; what arrives there counts."""

    reply: str


@dataclass(frozen=True, slots=True)
class Swallow:
    """A report with the `Nats-Msg-Id` that another tenant's device sends `seconds` later.

    Allowed if that other report is then missing in INGEST.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Peek:
    """A report that INGEST must turn down, for what its reason says of another tenant's last one.

    Allowed if the reason says that report's `Nats-Msg-Id` or sequence.
    """

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Login:
    """At the listener for `client`, `websocket` or `leaf node`."""

    listener: str


Deed = Publish | Subscribe | Request | Report | Divert | Swallow | Peek | Login


@dataclass(frozen=True, slots=True)
class Attack:
    """A row: what is tried, and what comes of it for a device and for a tenant's credential.

    Everybody else is not let in to try.
    """

    name: str
    deed: Deed
    device: Outcome
    tenant: Outcome

    def expected(self, actor: Actor) -> Outcome:
        if actor.credential is Credential.DEVICE:
            return self.device
        if actor.credential is Credential.TENANT:
            return self.tenant
        return Outcome.NO_LOGIN


_REFUSED, _ALLOWED = Outcome.REFUSED, Outcome.ALLOWED
_OWN = "tenant.{tenant}.device.{device}"
_SIBLING = "tenant.{tenant}.device.{sibling}"
_OTHER = "tenant.{other_tenant}.device.{other_device}"
_HEARTBEAT = f"{_OWN}.heartbeat"

_LOGINS = (
    Attack("log in", Login("client"), _ALLOWED, _ALLOWED),
    Attack("log in by websocket", Login("websocket"), _ALLOWED, _ALLOWED),
    Attack("log in as a leaf node", Login("leaf node"), Outcome.NO_LOGIN, Outcome.NO_LOGIN),
)

_PUBLISHES = (
    *(
        Attack(f"publish own `{kind}`", Publish(f"{_OWN}.{kind}"), _ALLOWED, _ALLOWED)
        for kind in DURABLE_KINDS
    ),
    Attack("publish own metric", Publish("demo.system.{device}.cpu_percent"), _ALLOWED, _REFUSED),
    *(
        Attack(f"publish sibling's `{kind}`", Publish(f"{_SIBLING}.{kind}"), _REFUSED, _ALLOWED)
        for kind in DURABLE_KINDS
    ),
    *(
        Attack(f"publish {what}", Publish(subject, local=True), _REFUSED, _REFUSED)
        for what, subject in (
            ("sibling's metric", "demo.system.{sibling}.cpu_percent"),
            ("metric of two tokens", "demo.system.{device}.cpu.percent"),
            ("own command", f"{_OWN}.command"),
            ("sibling's command", f"{_SIBLING}.command"),
            ("other tenant's report", f"{_OTHER}.heartbeat"),
            ("other tenant's metric", "demo.system.{other_device}.cpu_percent"),
            ("other tenant's command", f"{_OTHER}.command"),
            ("`ingest.` with own account", f"ingest.{{account}}.{_HEARTBEAT}"),
            ("`ingest.` with other account", f"ingest.{{other_account}}.{_OTHER}.heartbeat"),
            ("`command.` to sibling", "command.{account}.{sibling}"),
            ("`command.` to other tenant", "command.{other_account}.{other_device}"),
            ("`broker.`", "broker.{account}.connect"),
            ("`$SYS` disconnect event", "$SYS.ACCOUNT.{account}.DISCONNECT"),
            ("own inbox", "{inbox}.mine"),
            ("sibling's inbox", "_INBOX_{sibling}.guess"),
            ("other tenant's inbox", "_INBOX_{other_device}.guess"),
            ("shared inbox", "_INBOX.guess"),
            ("any word", "anything"),
            ("`tenant.*`", "tenant.*.device.*.heartbeat"),
            ("answer to a request of the platform", "_R_.guess.guess"),
            ("acknowledgement of INGEST", "$JS.ACK.INGEST.ingest-writer.1.1.1.1.1"),
        )
    ),
    Attack(
        "publish own tenant's other subjects",
        Publish("tenant.{tenant}.notice", local=True),
        _REFUSED,
        _ALLOWED,
    ),
    Attack(
        "publish own report, trace to sibling's command",
        Publish(_HEARTBEAT, headers={"Nats-Trace-Dest": f"{_SIBLING}.command"}),
        _REFUSED,
        _REFUSED,
    ),
)

_SUBSCRIPTIONS = (
    Attack("subscribe own command", Subscribe(f"{_OWN}.command"), _ALLOWED, _ALLOWED),
    Attack("subscribe own inbox", Subscribe("{inbox}.>"), _ALLOWED, _ALLOWED),
    Attack("subscribe own reports", Subscribe(_HEARTBEAT), _REFUSED, _ALLOWED),
    Attack("subscribe sibling's reports", Subscribe(f"{_SIBLING}.heartbeat"), _REFUSED, _ALLOWED),
    Attack("subscribe sibling's command", Subscribe(f"{_SIBLING}.command"), _REFUSED, _ALLOWED),
    Attack("subscribe `tenant.{own}.>`", Subscribe("tenant.{tenant}.>"), _REFUSED, _ALLOWED),
    Attack("subscribe shared inboxes", Subscribe("_INBOX.>"), _REFUSED, _ALLOWED),
    Attack(
        "join a queue group on own command", Subscribe(f"{_OWN}.command", "q"), _ALLOWED, _ALLOWED
    ),
    Attack(
        "join a queue group on sibling's command",
        Subscribe(f"{_SIBLING}.command", "q"),
        _REFUSED,
        _ALLOWED,
    ),
    Attack(
        "join a queue group on sibling's reports",
        Subscribe(f"{_SIBLING}.heartbeat", "q"),
        _REFUSED,
        _ALLOWED,
    ),
    *(
        Attack(what, Subscribe(subject, queue), _REFUSED, _REFUSED)
        for what, subject, queue in (
            ("subscribe sibling's metrics", "demo.system.{sibling}.*", ""),
            ("subscribe sibling's inbox", "_INBOX_{sibling}.>", ""),
            ("subscribe other tenant's reports", f"{_OTHER}.heartbeat", ""),
            ("subscribe other tenant's metrics", "demo.system.{other_device}.*", ""),
            ("subscribe other tenant's command", f"{_OTHER}.command", ""),
            ("subscribe other tenant's inbox", "_INBOX_{other_device}.>", ""),
            ("subscribe `tenant.{other}.>`", "tenant.{other_tenant}.>", ""),
            ("subscribe `tenant.*.>`", "tenant.*.>", ""),
            ("subscribe `tenant.*.device.*.command`", "tenant.*.device.*.command", ""),
            ("subscribe `>`", ">", ""),
            ("subscribe `*`", "*", ""),
            ("subscribe `*.>`", "*.>", ""),
            ("subscribe `demo.>`", "demo.>", ""),
            ("subscribe `ingest.>`", "ingest.>", ""),
            ("subscribe `command.>`", "command.>", ""),
            ("subscribe `broker.>`", "broker.>", ""),
            ("subscribe `$SYS.>`", "$SYS.>", ""),
            ("subscribe `$JS.>`", "$JS.>", ""),
            ("subscribe `_R_.>`", "_R_.>", ""),
            ("join a queue group on other tenant's command", f"{_OTHER}.command", "q"),
            ("join the platform's queue group `metrics`", "ingest.*.demo.system.*.*", "metrics"),
            ("join a queue group on `>`", ">", "q"),
        )
    ),
)

_FIRST = '{"seq": 1}'
_EVERYTHING = '{"name": "LOOT", "subjects": ["tenant.>"]}'
_CONSUMER = '{"stream_name": "{stream}", "config": {"ack_policy": "none", "deliver_subject": "x"}}'
_REQUESTS = (
    Attack(
        "ask for own stream's state", Request("$JS.API.STREAM.INFO.{stream}"), _REFUSED, _ALLOWED
    ),
    Attack(
        "get a message of own stream",
        Request("$JS.API.STREAM.MSG.GET.{stream}", '{"last_by_subj": "tenant.>"}'),
        _REFUSED,
        _ALLOWED,
    ),
    *(
        Attack(what, Request(subject, body), _REFUSED, _REFUSED)
        for what, subject, body in (
            ("direct get from own stream", "$JS.API.DIRECT.GET.{stream}", _FIRST),
            ("purge own stream", "$JS.API.STREAM.PURGE.{stream}", "{}"),
            ("delete own stream", "$JS.API.STREAM.DELETE.{stream}", ""),
            ("delete a message", "$JS.API.STREAM.MSG.DELETE.{stream}", _FIRST),
            ("change own stream", "$JS.API.STREAM.UPDATE.{stream}", _EVERYTHING),
            ("create a stream", "$JS.API.STREAM.CREATE.LOOT", _EVERYTHING),
            ("create a consumer", "$JS.API.CONSUMER.CREATE.{stream}", _CONSUMER),
            ("list streams", "$JS.API.STREAM.LIST", ""),
            ("name streams", "$JS.API.STREAM.NAMES", ""),
            ("ask for the account's limits", "$JS.API.INFO", ""),
            ("ask for INGEST's state", "$JS.API.STREAM.INFO.INGEST", ""),
            ("get a message of INGEST", "$JS.API.STREAM.MSG.GET.INGEST", _FIRST),
            ("take from INGEST", "$JS.API.CONSUMER.MSG.NEXT.INGEST.ingest-writer", ""),
            ("ask for other stream's state", "$JS.API.STREAM.INFO.{other_stream}", ""),
            ("get a message of other stream", "$JS.API.STREAM.MSG.GET.{other_stream}", _FIRST),
            ("ask the server who it is to it", "$SYS.REQ.USER.INFO", ""),
            ("list accounts", "$SYS.REQ.CLAIMS.LIST", ""),
            ("push account claims", "$SYS.REQ.CLAIMS.UPDATE", "x"),
            ("list own account's connections", "$SYS.REQ.ACCOUNT.{account}.CONNZ", ""),
        )
    ),
    *(
        Attack(f"report with `{name}`", Report(headers), _REFUSED, _REFUSED)
        for name, headers in (
            ("Nats-Rollup: all", {"Nats-Rollup": "all"}),
            ("Nats-Rollup: sub", {"Nats-Rollup": "sub"}),
            ("Nats-TTL", {"Nats-TTL": "1s"}),
            ("Nats-Incr", {"Nats-Incr": "1"}),
            ("Nats-Batch-Id", {"Nats-Batch-Id": "x", "Nats-Batch-Sequence": "1"}),
            (
                "Nats-Schedule-Target",
                {
                    "Nats-Schedule": "@at 2020-01-01T00:00:00Z",
                    "Nats-Schedule-Target": f"ingest.{{other_account}}.{_OTHER}.heartbeat",
                },
            ),
        )
    ),
)

_DIVERSIONS = tuple(
    Attack(f"report with {what} as its reply", Divert(reply), outcome, outcome)
    for what, reply, outcome in (
        ("sibling's command", f"{_SIBLING}.command", Outcome.PUB_ACK),
        ("sibling's inbox", "_INBOX_{sibling}.guess", Outcome.PUB_ACK),
        ("sibling's report", f"{_SIBLING}.heartbeat", Outcome.PUB_ACK),
        ("sibling's metric", "demo.system.{sibling}.cpu_percent", Outcome.UNHEARD),
        ("other tenant's command", f"{_OTHER}.command", Outcome.UNHEARD),
        ("other tenant's inbox", "_INBOX_{other_device}.guess", Outcome.UNHEARD),
        ("other tenant's report", f"{_OTHER}.heartbeat", Outcome.UNHEARD),
        ("`command.` to sibling", "command.{account}.{sibling}", Outcome.UNHEARD),
        ("`ingest.` of sibling", f"ingest.{{account}}.{_SIBLING}.heartbeat", Outcome.UNHEARD),
        ("purge of own stream", "$JS.API.STREAM.PURGE.{stream}", Outcome.UNHEARD),
        ("deletion of own stream", "$JS.API.STREAM.DELETE.{stream}", Outcome.UNHEARD),
        ("deletion of INGEST", "$JS.API.STREAM.DELETE.INGEST", Outcome.UNHEARD),
        ("claims push", "$SYS.REQ.CLAIMS.UPDATE", Outcome.UNHEARD),
        ("acknowledgement", "$JS.ACK.INGEST.ingest-writer.1.1.1.1.1", Outcome.REFUSED),
    )
)

_SHARED_STREAM = (
    Attack("swallow other tenant's report by its `Nats-Msg-Id`", Swallow(0.0), _ALLOWED, _ALLOWED),
    Attack("the same, 150 ms before", Swallow(0.15), Outcome.UNHEARD, Outcome.UNHEARD),
    Attack(
        "read the last `Nats-Msg-Id` of all tenants",
        Peek({"Nats-Expected-Last-Msg-Id": "x"}),
        _ALLOWED,
        _ALLOWED,
    ),
    Attack(
        "read other tenant's last sequence in INGEST",
        Peek(
            {
                "Nats-Expected-Last-Subject-Sequence": "9999999",
                "Nats-Expected-Last-Subject-Sequence-Subject": (
                    "ingest.*.tenant.{other_tenant}.device.*.*"
                ),
            }
        ),
        _ALLOWED,
        _ALLOWED,
    ),
)

ATTACKS = (
    *_LOGINS,
    *_PUBLISHES,
    *_SUBSCRIPTIONS,
    *_REQUESTS,
    *_DIVERSIONS,
    *_SHARED_STREAM,
)


def markdown() -> str:
    """The table as people read it: a row for each attack, a column for each actor."""
    rows = [
        ["attack", *(actor.name for actor in ACTORS)],
        ["---"] * (1 + len(ACTORS)),
        *([attack.name, *(attack.expected(actor) for actor in ACTORS)] for attack in ATTACKS),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
