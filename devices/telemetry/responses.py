"""Record devices' responses to commands: receipts and results, a batch in one transaction."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from devices.commands.correlation import log_by_request
from devices.commands.issue import wake_delivery_to
from devices.commands.rules.truncation import within
from devices.live import frames
from devices.models import Command, CommandState
from devices.models.command import Move
from devices.telemetry.tenancy import reject_foreign
from natsbridge.postgres.statements import as_json
from natsbridge.protocol.envelope import CORRELATION_ID, Message
from natsbridge.protocol.kinds import Response
from natsbridge.registry import Rejection


def record_responses(messages: Sequence[Message]) -> list[Rejection]:
    """Record receipts and results. A result counts even after the command was given up."""
    accepted, rejected = reject_foreign(messages)
    bodies = {id(message): _response(message) for message in accepted}
    rows = Command.objects.filter(uuid__in={body.command_id for body in bodies.values()})
    found = list(rows.values_list("uuid", "device_id", "request_id"))
    known = {uuid: device for uuid, device, _ in found}
    request_ids = {uuid: request_id for uuid, _, request_id in found}
    receipts: dict[UUID, Move] = {}
    results: dict[UUID, Move] = {}
    returned: set[UUID] = set()
    for message in accepted:
        body = bodies[id(message)]
        reason = _refusal(known, message, body)
        if reason is not None:
            rejected.append(Rejection(message.raw, *reason))
        elif body.result.status == "received":
            received = {"delivered_at": message.raw.received_at}
            move = Move(body.command_id, CommandState.DELIVERED, received)
            receipts.setdefault(body.command_id, move)
        else:
            results.setdefault(body.command_id, _result(message, body))
            if message.raw.headers.get(CORRELATION_ID) == request_ids[body.command_id]:
                returned.add(body.command_id)
    with transaction.atomic():
        delivered = Command.move_each(receipts.values())
        ended = Command.move_each(results.values(), corrections=True)
        # A receipt or a result lets the commands behind it go.
        wake_delivery_to(known[uuid] for uuid in delivered + ended)
    moves = [receipts[uuid] for uuid in delivered] + [results[uuid] for uuid in ended]
    frames.push_states((known[move.uuid], move.uuid, move.state) for move in moves)
    answered = {uuid: request_ids[uuid] for uuid in ended}
    log_by_request("commands answered", answered, returned=returned)
    return rejected


def _refusal(known: dict[UUID, UUID], message: Message, body: Response) -> tuple[str, str] | None:
    owner = known.get(body.command_id)
    if owner is None:
        return "unknown_command", f"There is no command {body.command_id}."
    if owner != message.device:
        return "foreign_command", f"Command {body.command_id} is another device's."
    if body.result.status not in ("received", "success", "error"):
        return "wrong_type", f"result.status is {body.result.status[:40]!r}."
    return None


def _response(message: Message) -> Response:
    body = message.body
    assert isinstance(body, Response)  # noqa: S101 (the decoder of this kind makes no other)
    return body


def _result(message: Message, body: Response) -> Move:
    succeeded = body.result.status == "success"
    error = "" if succeeded else _text(body.result.error) or "the agent gave no reason"
    limit = settings.COMMAND_RESULT_MAX_BYTES
    result = within(body.result.result, limit)
    changes = {
        "result": None if result.value is None else as_json(result.value),
        # If the agent has cut it already, it knows the original size.
        "result_cut_from": _size(body.result.cut_from) or result.cut_from,
        "error": within(error, limit).value,
        "finished_at": message.raw.received_at,
        "unanswered": False,
    }
    state = CommandState.SUCCEEDED if succeeded else CommandState.FAILED
    return Move(body.command_id, state, changes)


def _size(said: Any) -> int | None:
    return said if type(said) is int and 0 < said < 2**63 else None


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else as_json(value)
