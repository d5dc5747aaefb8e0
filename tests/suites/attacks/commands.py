"""A deed in the words of the NATS protocol."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from natsbridge.identity.permissions import CALLOUT_SUBJECT
from tests.suites.attacks.deeds import (
    Deed,
    Divert,
    Eavesdrop,
    Gainsay,
    Peek,
    Publish,
    Report,
    Request,
    Subscribe,
    Swallow,
)
from tests.suites.attacks.wire import publish, subscribe

# The subscription that is tried.
TRIED = 2


def filled(deed: Deed, place: Mapping[str, str]) -> Deed:
    """The same deed with its templates filled in."""

    def fill(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: fill(each) for name, each in value.items()}
        if isinstance(value, str):
            # Not str.format: some are JSON, whose braces are its own.
            for name, each in place.items():
                value = value.replace(f"{{{name}}}", each)
        return value

    return replace(deed, **{each.name: fill(getattr(deed, each.name)) for each in fields(deed)})


def commands(deed: Deed, token: bytes, place: Mapping[str, str]) -> bytes:
    match deed:
        case Publish(subject=subject, headers=headers):
            return publish(subject, token, headers=headers)
        case Request(subject=subject, body=body):
            return publish(subject, body.encode() or token)
        case Subscribe(subject=subject, queue=queue):
            return subscribe(subject, TRIED, queue=queue)
        case Divert(reply=reply):
            return publish(report_subject(place, "response"), token, reply=reply)
        case Swallow(kind=kind):
            return publish(
                report_subject(place, kind), token, headers={"Nats-Msg-Id": token.decode()}
            )
        case Report(headers=headers, kind=kind) | Peek(headers=headers, kind=kind):
            return publish(report_subject(place, kind), token, headers=headers)
        case Eavesdrop(queue=queue):
            return subscribe(CALLOUT_SUBJECT, TRIED, queue=queue)
        case Gainsay():
            return publish("$SYS._INBOX.guess", token)
    raise AssertionError(deed)


def report_subject(place: Mapping[str, str], kind: str) -> str:
    return f"tenant.{place['tenant']}.device.{place['device']}.{kind}"
