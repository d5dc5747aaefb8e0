"""The attack suite as data: who tries what at the broker, and what comes of it.

Subjects are templates, read from where the actor stands: `{tenant}`, `{account}`, `{stream}` and
`{inbox}` are its own tenant's or its own, `{device}` is itself (for a tenant's credential: one of
its devices), `{sibling}` another device of the same tenant, and `{other_tenant}`,
`{other_account}`, `{other_stream}` and `{other_device}` belong to somebody else.
"""

from natsbridge.protocol.kinds import DURABLE_TYPES
from tests.suites.attacks.deeds import (
    ACTORS,
    Attack,
    Divert,
    Eavesdrop,
    Gainsay,
    Login,
    Outcome,
    Peek,
    Pose,
    Publish,
    Report,
    Request,
    Subscribe,
    Swallow,
)

_REFUSED, _ALLOWED, _NO_LOGIN = Outcome.REFUSED, Outcome.ALLOWED, Outcome.NO_LOGIN
_OWN = "tenant.{tenant}.device.{device}"
_SIBLING = "tenant.{tenant}.device.{sibling}"
_OTHER = "tenant.{other_tenant}.device.{other_device}"
_HEARTBEAT = f"{_OWN}.heartbeat"

_LOGINS = (
    Attack("log in", Login("client"), _ALLOWED, _ALLOWED, _ALLOWED),
    Attack("log in by websocket", Login("websocket"), _ALLOWED, _ALLOWED, _ALLOWED),
    *(
        Attack(f"log in {how}", Login(listener), _NO_LOGIN, _NO_LOGIN, _NO_LOGIN)
        for how, listener in (
            ("as a leaf node", "leaf node"),
            ("as a leaf node by websocket", "leaf node by websocket"),
            ("by MQTT over websocket", "mqtt"),
        )
    ),
    *(
        Attack(f"log in and claim to be {whom}", Pose(name), *([Outcome.UNHEARD] * 3))
        for whom, name in (("the sibling", "{sibling}"), ("the subscriber", "subscriber"))
    ),
)

_PUBLISHES = (
    *(
        Attack(f"publish own `{kind}`", Publish(f"{_OWN}.{kind}"), _ALLOWED, _ALLOWED)
        for kind in DURABLE_TYPES
    ),
    Attack("publish own metric", Publish("demo.system.{device}.cpu_percent"), _ALLOWED, _REFUSED),
    *(
        Attack(f"publish sibling's `{kind}`", Publish(f"{_SIBLING}.{kind}"), _REFUSED, _ALLOWED)
        for kind in DURABLE_TYPES
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
            ("`broker.` of other account", "broker.{other_account}.disconnect"),
            ("`$SYS` disconnect event", "$SYS.ACCOUNT.{account}.DISCONNECT"),
            ("own inbox", "{inbox}.mine"),
            ("sibling's inbox", "_INBOX_{sibling}.guess"),
            ("other tenant's inbox", "_INBOX_{other_device}.guess"),
            ("shared inbox", "_INBOX.guess"),
            ("any word", "anything"),
            ("`tenant.*`", "tenant.*.device.*.heartbeat"),
            ("answer to a request of the platform", "_R_.guess.guess"),
            ("acknowledgement of INGEST", "$JS.ACK.INGEST.ingest-writer.1.1.1.1.1"),
            ("acknowledgement of BROKER", "$JS.ACK.BROKER.presence-writer.1.1.1.1.1"),
            ("acknowledgement with a domain", "$JS.ACK._._.INGEST.ingest-writer.1.1.1.1.1.x"),
            ("flow control of INGEST", "$JS.FC.INGEST.ingest-writer.x"),
            ("`$SYS` connect event of other account", "$SYS.ACCOUNT.{other_account}.CONNECT"),
            ("dead letter of other account", "dlq.{other_account}.unknown_device"),
            ("question to the callout", "$SYS.REQ.USER.AUTH"),
        )
    ),
    Attack(
        "publish answer of the callout to nobody's question",
        Publish("$SYS._INBOX.guess.guess", local=True),
        _REFUSED,
        _REFUSED,
        _ALLOWED,
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
            ("subscribe `dlq.>`", "dlq.>", ""),
            ("subscribe `broker.*.connect`", "broker.*.connect", ""),
            ("subscribe own account's `$SYS` events", "$SYS.ACCOUNT.{account}.CONNECT", ""),
            ("subscribe `$SYS.ACCOUNT.*.DISCONNECT`", "$SYS.ACCOUNT.*.DISCONNECT", ""),
            ("subscribe `$SYS._INBOX.>`", "$SYS._INBOX.>", ""),
            ("subscribe `$SYS.REQ.USER.*`", "$SYS.REQ.USER.*", ""),
            ("subscribe acknowledgements", "$JS.ACK.>", ""),
            ("subscribe JetStream's advisories", "$JS.EVENT.>", ""),
            ("subscribe JetStream's API, to answer for it", "$JS.API.>", "q"),
            ("join INGEST's intake", "ingest.*.tenant.*.device.*.heartbeat", "q"),
            ("join a queue group on other tenant's command", f"{_OTHER}.command", "q"),
            ("join the platform's queue group `metrics`", "ingest.*.demo.system.*.*", "metrics"),
            ("join a queue group on `>`", ">", "q"),
        )
    ),
)

_FIRST = '{"seq": 1}'
_EVERYTHING = '{"name": "LOOT", "subjects": ["tenant.>"]}'
_CONSUMER = '{"stream_name": "{stream}", "config": {"ack_policy": "none", "deliver_subject": "x"}}'


def _rollup(what: str) -> Report:
    return Report({"Nats-Rollup": what}, "heartbeat")


_SPY = '{"stream_name": "BROKER", "config": {"ack_policy": "none", "deliver_subject": "x"}}'
_PAUSE = '{"pause_until": "2099-01-01T00:00:00Z"}'
_LOOK_UP = "$SYS.REQ.ACCOUNT.{other_account}.CLAIMS.LOOKUP"
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
            ("direct get from INGEST", "$JS.API.DIRECT.GET.INGEST", _FIRST),
            ("delete INGEST's consumer", "$JS.API.CONSUMER.DELETE.INGEST.ingest-writer", ""),
            ("ask for BROKER's state", "$JS.API.STREAM.INFO.BROKER", ""),
            ("get a message of BROKER", "$JS.API.STREAM.MSG.GET.BROKER", _FIRST),
            ("direct get from BROKER", "$JS.API.DIRECT.GET.BROKER.broker.{account}.connect", ""),
            ("take from BROKER", "$JS.API.CONSUMER.MSG.NEXT.BROKER.presence-writer", ""),
            ("create a consumer of BROKER", "$JS.API.CONSUMER.CREATE.BROKER", _SPY),
            ("pause BROKER's consumer", "$JS.API.CONSUMER.PAUSE.BROKER.presence-writer", _PAUSE),
            ("purge BROKER", "$JS.API.STREAM.PURGE.BROKER", "{}"),
            ("take from LATEST", "$JS.API.CONSUMER.MSG.NEXT.LATEST.latest-writer", ""),
            ("get a message of LATEST", "$JS.API.STREAM.MSG.GET.LATEST", _FIRST),
            ("take from DLQ", "$JS.API.CONSUMER.MSG.NEXT.DLQ.dead-letter-mirror", ""),
            ("get a message of DLQ", "$JS.API.STREAM.MSG.GET.DLQ", _FIRST),
            ("purge DLQ", "$JS.API.STREAM.PURGE.DLQ", "{}"),
            ("ask for other stream's state", "$JS.API.STREAM.INFO.{other_stream}", ""),
            ("get a message of other stream", "$JS.API.STREAM.MSG.GET.{other_stream}", _FIRST),
            ("ask the server who it is to it", "$SYS.REQ.USER.INFO", ""),
            ("list accounts", "$SYS.REQ.CLAIMS.LIST", ""),
            ("push account claims", "$SYS.REQ.CLAIMS.UPDATE", "x"),
            ("delete account claims", "$SYS.REQ.CLAIMS.DELETE", "x"),
            ("look up other account's claims", _LOOK_UP, ""),
            ("list own account's connections", "$SYS.REQ.ACCOUNT.{account}.CONNZ", ""),
            ("list connections as an account may", "$SYS.REQ.ACCOUNT.PING.CONNZ", '{"auth": true}'),
            ("list all connections", "$SYS.REQ.SERVER.PING.CONNZ", '{"auth": true}'),
            ("list servers", "$SYS.REQ.SERVER.PING", ""),
            ("end a connection", "$SYS.REQ.SERVER.{server}.KICK", '{"cid": 1}'),
            ("reload the server", "$SYS.REQ.SERVER.{server}.RELOAD", ""),
            ("count subscribers", "$SYS.DEBUG.SUBSCRIBERS", ">"),
        )
    ),
    *(
        Attack(f"heartbeat with `Nats-Rollup: {what}`", _rollup(what), _REFUSED, _REFUSED)
        for what in ("all", "sub")
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
        ("deletion of BROKER", "$JS.API.STREAM.DELETE.BROKER", Outcome.UNHEARD),
        ("`broker.` of other account", "broker.{other_account}.disconnect", Outcome.UNHEARD),
        ("question to the callout", "$SYS.REQ.USER.AUTH", Outcome.UNHEARD),
        ("claims push", "$SYS.REQ.CLAIMS.UPDATE", Outcome.UNHEARD),
        ("acknowledgement", "$JS.ACK.INGEST.ingest-writer.1.1.1.1.1", Outcome.REFUSED),
        ("flow control", "$JS.FC.INGEST.ingest-writer.x", Outcome.UNHEARD),
    )
)

_CALLOUT = (
    Attack("hear what the callout is asked", Eavesdrop(), _REFUSED, _REFUSED, Outcome.SEALED),
    Attack(
        "hear what the callout is asked, in a queue group",
        Eavesdrop("q"),
        _REFUSED,
        _REFUSED,
        Outcome.SEALED,
    ),
    Attack("have a good password refused", Gainsay(), _REFUSED, _REFUSED, _ALLOWED),
)

# What tenants share: INGEST takes responses, LATEST heartbeats.
_LAST_SEQUENCE = {
    "Nats-Expected-Last-Subject-Sequence": "9999999",
    "Nats-Expected-Last-Subject-Sequence-Subject": "ingest.*.tenant.{other_tenant}.device.*.*",
}
_SHARED_STREAMS = tuple(
    attack
    for stream, kind in (("INGEST", "response"), ("LATEST", "heartbeat"))
    for attack in (
        Attack(
            f"swallow other tenant's report in {stream} by its `Nats-Msg-Id`",
            Swallow(0.0, kind),
            _ALLOWED,
            _ALLOWED,
        ),
        Attack(
            f"the same in {stream}, 250 ms before",
            Swallow(0.25, kind),
            Outcome.UNHEARD,
            Outcome.UNHEARD,
        ),
        Attack(
            f"read the last `Nats-Msg-Id` in {stream}",
            Peek({"Nats-Expected-Last-Msg-Id": "x"}, kind),
            _ALLOWED,
            _ALLOWED,
        ),
        Attack(
            f"read other tenant's last sequence in {stream}",
            Peek(_LAST_SEQUENCE, kind),
            _ALLOWED,
            _ALLOWED,
        ),
    )
)

ATTACKS = (
    *_LOGINS,
    *_PUBLISHES,
    *_SUBSCRIPTIONS,
    *_REQUESTS,
    *_DIVERSIONS,
    *_CALLOUT,
    *_SHARED_STREAMS,
)


def markdown() -> str:
    """The table as people read it: a row for each attack, a column for those to whom the same
    happens in every row."""
    columns: dict[tuple[Outcome, ...], list[str]] = {}
    for actor in ACTORS:
        outcomes = tuple(attack.expected(actor) for attack in ATTACKS)
        columns.setdefault(outcomes, []).append(actor.name)
    rows = [
        ["attack", *(", ".join(names) for names in columns.values())],
        ["---"] * (1 + len(columns)),
        *(
            [attack.name, *row]
            for attack, row in zip(ATTACKS, zip(*columns, strict=True), strict=True)
        ),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
