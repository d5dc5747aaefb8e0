"""Three servers in place of one: what is acknowledged outlives the death of any of them, and what
is ordered reaches all of them."""

import signal
import time
from contextlib import ExitStack
from typing import Any

import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError
from pytest_django.fixtures import Settings

from devices.commands.issue import issue
from devices.enrolment import credentials as device_credentials
from devices.models import BrokerSession, Device, PresenceChange
from devices.presence import task as presence_task
from devices.presence.coverage import current_cutoffs
from devices.presence.rules import Status
from natsbridge.models import DeadLetter
from tenants.credentials.issue import Issued, issue_device_password
from tenants.models import Action, AuditEntry, BrokerAccount, Group, User
from tests.suites.cluster.load import Reporting
from tests.suites.cluster.nodes import NAMES, Cluster, Node
from tests.support.people import enrol
from tests.support.system import eventually
from tests.support.waiting import SAFETY_NET

STREAMS = ("INGEST", "LATEST", "BROKER", "DLQ")
# Raft elects after 4 to 9 s of silence.
ELECTION = 15.0


@pytest.fixture
def ready(cluster: Cluster, group_a: Group) -> Cluster:
    """With a subscriber running and tenant A provisioned."""
    make_ready(cluster, group_a)
    return cluster


def make_ready(cluster: Cluster, group: Group) -> None:
    cluster.start_subscriber()
    provisioned(group)
    for stream in STREAMS:
        eventually(lambda stream=stream: cluster.replicas_of(stream) == len(NAMES))


def provisioned(group: Group) -> BrokerAccount:
    accounts = BrokerAccount.objects.filter(tenant=group.tenant, last_error="")
    return eventually(accounts.exclude(provisioned_at=None).first)


def claims_at(node: Node, account: str) -> dict[str, Any] | None:
    detail = node.asked(f"/accountz?acc={account}").get("account_detail") or {}
    return detail.get("decoded_jwt")


def status(device: Device) -> Status:
    return Device.objects.select_related("connectivity").get(pk=device.pk).status(current_cutoffs())


def has_claims_connection(node: Node) -> bool:
    return any(
        each.get("name") == "wegweiser claims" for each in node.asked("/connz")["connections"]
    )


def has_presence_connection(node: Node) -> bool:
    connections = node.asked("/connz")["connections"]
    return any(each.get("name") == "presence sweep" for each in connections)


def revocations(node: Node, account: str) -> dict[str, int]:
    claims = claims_at(node, account)
    return claims["nats"].get("revocations", {}) if claims else {}


def by_password(cluster: Cluster, issued: Issued, node: Node) -> Client:
    async def quiet(error: Exception) -> None:
        pass

    async def log_in() -> Client:
        client = Client()
        try:
            await client.connect(
                node.url,
                user=issued.username,
                password=issued.secret,
                allow_reconnect=False,
                connect_timeout=SAFETY_NET,
                error_cb=quiet,
            )
        except NatsError:
            await client.close()
            raise
        return client

    return cluster.thread.run(log_in())


def gets_in(cluster: Cluster, issued: Issued, node: Node) -> bool:
    try:
        client = by_password(cluster, issued, node)
    except NatsError:
        return False
    cluster.thread.run(client.close())
    return True


def closed_after(device: Device, client: Client) -> float:
    """Seconds until the device's connection is closed, once it has been revoked."""
    started = time.monotonic()
    device_credentials.revoke_device(device, by=None, reason="stolen")
    eventually(lambda: client.is_closed)
    return time.monotonic() - started


# The election of a new leader alone takes some five seconds.
def test_the_death_of_a_streams_leader_loses_nothing_that_was_acknowledged(
    ready: Cluster, group_a: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    devices = [enrol(group_a, name) for name in NAMES]
    seen: set[Status] = set()
    with ExitStack() as stack:
        loads = [stack.enter_context(Reporting(ready.thread, each)) for each in devices]
        eventually(lambda: all(status(each.device) is Status.ONLINE for each in devices))
        eventually(lambda: all(load.count > 20 for load in loads))

        ready.leader_of("INGEST").kill()

        counts = [load.count for load in loads]

        def all_go_on() -> bool:
            seen.update(status(each.device) for each in devices)
            return all(load.count > count + 20 for load, count in zip(loads, counts, strict=True))

        eventually(all_go_on, within=ELECTION)
    eventually(lambda: not any(load.missing() for load in loads), within=ELECTION)
    assert seen == {Status.ONLINE}
    assert not PresenceChange.objects.exclude(presence="online").exists()
    assert [str(each) for each in DeadLetter.objects.all()] == []
    with capsys.disabled():
        waits = ", ".join(f"{load.longest_wait:.1f} s" for load in loads)
        print(f"\n{sum(load.count for load in loads)} acknowledged; without one for {waits}")


# Three servers, one of them killed.
@pytest.mark.long
def test_a_killed_server_neither_holds_up_commands_nor_leaves_connections_behind(
    cluster: Cluster,
    group_a: Group,
    alice: User,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.PRESENCE_SERVER_GRACE_SECONDS = 1
    monkeypatch.setattr(presence_task, "SOON_SECONDS", ())
    monkeypatch.setattr(presence_task, "RECONCILE_SECONDS", 3600.0)
    monkeypatch.setattr(presence_task, "SERVERS_SECONDS", 3600.0)
    make_ready(cluster, group_a)
    plain, gone = enrol(group_a, "plain"), enrol(group_a, "gone")
    lost, *others = sorted(cluster.nodes.values(), key=has_presence_connection)
    for enrolled in (plain, gone):
        cluster.agent(enrolled, lost.url).heartbeat(capabilities={})
    open_sessions = BrokerSession.objects.filter(ended_at=None)
    eventually(lambda: open_sessions.count() == 2)
    left_behind = list(open_sessions.values_list("pk", flat=True))

    lost.kill()
    for stream in ("LATEST", "BROKER"):
        cluster.leader_of(stream)
    agent = cluster.agent(plain, others[0].url)
    agent.heartbeat(capabilities={})
    eventually(lambda: open_sessions.count() == 3)
    command = issue(plain.device, "ping", {}, by=alice)
    eventually(lambda: agent.received)
    assert agent.received[0]["payload"]["command_id"] == str(command.uuid)
    assert open_sessions.filter(pk__in=left_behind).count() == 2

    monkeypatch.setattr(presence_task, "SERVERS_SECONDS", 0.5)
    eventually(lambda: not open_sessions.filter(pk__in=left_behind).exists())
    eventually(lambda: status(gone.device) is Status.OFFLINE)


# A server that hangs costs each question some seconds.
@pytest.mark.long
def test_a_server_that_hangs_keeps_no_other_from_shutting_somebody_out(
    ready: Cluster, group_a: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    stolen = enrol(group_a, "stolen")
    provisioned(group_a)
    # Where the server hangs that is asked, nothing is done until that is noticed, half a minute.
    others = sorted(ready.nodes.values(), key=has_claims_connection, reverse=True)
    hung = others.pop()
    agents = [ready.agent(stolen, node.url) for node in others]
    assert hung.child
    hung.child.process.send_signal(signal.SIGSTOP)
    try:
        seconds = max(closed_after(stolen.device, agent.client) for agent in agents)
    finally:
        hung.child.process.send_signal(signal.SIGCONT)
    with capsys.disabled():
        print(f"\nclosed after {seconds:.1f} s while a server hung")


# Three servers, one of them killed and started again.
@pytest.mark.long
def test_a_device_that_is_shut_out_is_shut_out_everywhere_even_where_a_server_was_down(
    ready: Cluster, group_a: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    account = provisioned(group_a).public_key
    nodes = list(ready.nodes.values())
    tenant = group_a.tenant_id
    for node in nodes:
        eventually(lambda node=node: claims_at(node, account))

    # By password and by JWT, on each server; each is known by its own login and no other.
    passwords, jwts = {}, {}
    for name, node in ready.nodes.items():
        passworded, keyed = enrol(group_a, f"password {name}"), enrol(group_a, f"key {name}")
        issued = issue_device_password(tenant, passworded.device.pk)
        passwords[name] = passworded.device, issued, by_password(ready, issued, node)
        jwts[name] = keyed, ready.agent(keyed, node.url)
    devices = [each[0] for each in passwords.values()] + [each[0].device for each in jwts.values()]
    eventually(lambda: all(status(device) is Status.ONLINE for device in devices))
    assert BrokerSession.objects.filter(ended_at=None).count() == len(devices)
    assert BrokerSession.objects.values("server_id").distinct().count() == len(nodes)
    logins = AuditEntry.objects.filter(action=Action.BROKER_LOGIN, device_uuid__isnull=False)
    assert logins.count() == len(devices)

    ended = {}
    for name in NAMES:
        device, issued, client = passwords[name]
        ended[f"password on {name}"] = closed_after(device, client)
        assert not any(gets_in(ready, issued, node) for node in nodes)
        keyed, agent = jwts[name]
        ended[f"JWT on {name}"] = closed_after(keyed.device, agent.client)

    down = nodes[0]
    stays, goes = enrol(group_a, "stays"), enrol(group_a, "goes")
    staying, going = (ready.agent(each, nodes[1].url) for each in (stays, goes))
    down.kill()
    ended["JWT while a server is down"] = closed_after(goes.device, going.client)
    assert staying.client.is_connected
    down.launch()
    down.wait()
    back = time.monotonic()
    eventually(lambda: goes.key.public in revocations(down, account))
    caught_up = time.monotonic() - back
    assert ready.lets_in(stays)
    with capsys.disabled():
        for what, seconds in ended.items():
            print(f"\n{what}: closed after {seconds:.3f} s", end="")
        print(f"\nclaims caught up {caught_up:.2f} s after the server was back")
