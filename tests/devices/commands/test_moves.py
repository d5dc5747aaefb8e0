"""A command's state changes along the declared graph, and a batch takes a constant number of
statements."""

from collections.abc import Callable
from itertools import product

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from devices.commands import bulk, delivery, targets
from devices.commands import issue as commands
from devices.commands.rules.states import COMMAND_STATES
from devices.models import Command, CommandState, Device
from devices.models.command import Move
from devices.telemetry import responses
from natsbridge.protocol.envelope import Message, RawMessage
from natsbridge.protocol.kinds import CommandResult, Response
from natsbridge.subscriber import status
from tenants.models import Group, User
from tests.support.many import many_devices, some_offline

BATCH = 500


@pytest.fixture(autouse=True)
def listening(db: None, redis_server: object) -> None:
    status.beat("test", started_at=timezone.now(), connected=True, details={})


@pytest.mark.parametrize("unanswered", [False, True])
def test_rows_move_only_along_the_graph(device_a: Device, alice: User, unanswered: bool) -> None:
    row = commands.issue(device_a, "ping", {}, by=alice)
    rows = Command.objects.filter(pk=row.pk)
    for source, target in product(CommandState, CommandState):
        declared = target in COMMAND_STATES.edges.get(source, ())
        corrected = target in COMMAND_STATES.corrections.get(source, ()) and (
            source != CommandState.FAILED or unanswered
        )
        move = Move(row.uuid, target, {"error": "new"})
        ways: list[tuple[Callable[[], object], bool]] = [
            (lambda to=target: rows.move_to(to, error="new"), declared),
            (lambda move=move: Command.move_each([move]), declared),
            (lambda move=move: Command.move_each([move], corrections=True), declared or corrected),
        ]
        for act, moves in ways:
            rows.delete()
            row.state, row.unanswered, row.error = source, unanswered, "old"
            row.save(force_insert=True)
            assert bool(act()) is moves, f"{source} to {target}"
            found = rows.get()
            expected = (target, "new") if moves else (source, "old")
            assert (found.state, found.error) == expected


def test_each_command_of_a_statement_gets_its_own_state_and_values(
    group_a: Group, alice: User
) -> None:
    devices = many_devices(group_a, 3)
    sent, ended, waiting = (commands.issue(each, "ping", {}, by=alice) for each in devices)
    Command.objects.filter(pk=sent.pk).move_to(CommandState.SENT)
    Command.objects.filter(pk=ended.pk).move_to(CommandState.CANCELLED)
    moves = [
        Move(sent.uuid, CommandState.SUCCEEDED, {"result": '{"b": 1, "a": 2}', "error": ""}),
        Move(ended.uuid, CommandState.FAILED, {"result": None, "error": "late"}),
        Move(waiting.uuid, CommandState.FAILED, {"result": None, "error": "broken"}),
    ]
    assert set(Command.move_each(moves, corrections=True)) == {sent.uuid, waiting.uuid}
    found = {each.pk: (each.state, each.result, each.error) for each in Command.objects.all()}
    assert found == {
        sent.pk: ("succeeded", {"b": 1, "a": 2}, ""),
        ended.pk: ("cancelled", None, ""),
        waiting.pk: ("failed", None, "broken"),
    }


def test_a_batch_takes_no_more_statements_than_a_single_command(
    group_a: Group, alice: User
) -> None:
    devices = many_devices(group_a, BATCH)
    row = bulk.issue(targets.of_group(alice, group_a.pk), "ping", {}, by=alice)[0]
    outgoing: list[delivery.Outgoing] = []
    assert _statements(lambda: outgoing.extend(delivery.claim_due(BATCH))) <= 18
    assert _statements(lambda: delivery.mark_published(outgoing[:450], outgoing[450:])) <= 2
    some_offline(devices[:100], 100)
    sent = list(
        Command.objects.filter(state=CommandState.SENT).select_related(
            "device__tenant__broker_account"
        )
    )
    first = [_response(each, "received") for each in sent[:300]]
    first += [_response(each, "success") for each in sent[200:250]]
    first += [_response(each, "error") for each in sent[250:300]]
    assert _statements(lambda: responses.record_responses(first)) <= 8
    assert _states("delivered", "succeeded", "failed") == (200, 50, 50)
    assert _statements(lambda: bulk.cancel(row, by=alice)) <= 16
    Command.objects.update(deadline=timezone.now())
    assert _statements(delivery.sweep) <= 6
    assert not Command.objects.filter(state__in=COMMAND_STATES.open).exists()
    late = [_response(each, "success") for each in sent]
    assert _statements(lambda: responses.record_responses(late)) <= 7
    assert _states("succeeded", "failed", "cancelled") == (400, 50, 50)


def _statements(act: Callable[[], object]) -> int:
    with CaptureQueriesContext(connection) as queries:
        act()
    return len(queries)


def _states(*states: str) -> tuple[int, ...]:
    return tuple(Command.objects.filter(state=state).count() for state in states)


def _response(command: Command, said: str) -> Message:
    raw = RawMessage(subject="", data=b"", headers={}, received_at=timezone.now())
    body = Response(command_id=command.uuid, result=CommandResult(status=said, result={"n": 1}))
    device = command.device
    account = device.tenant.broker_account.public_key
    return Message(account, device.tenant_id, device.pk, "response", body, raw)
