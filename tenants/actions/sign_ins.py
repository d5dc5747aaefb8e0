"""Who logged in to the web, and who tried."""

import time
from dataclasses import dataclass

from tenants import origin
from tenants.actions import audit
from tenants.actions.audit import Actor, Event
from tenants.models import Action, ActorKind, User
from tenants.tally import Tally

WINDOW_SECONDS = 60.0
MAX_KINDS = 50


@dataclass(frozen=True)
class _Failure:
    """`username` is a person's: any other may be a password in the wrong field."""

    username: str
    address: str
    via: str
    locked_out: bool


_MANY = _Failure("", "many addresses", "", False)
_failures = Tally(window=WINDOW_SECONDS, max_keys=MAX_KINDS, overflow=_MANY)


def record_login(person: User) -> None:
    named = f"person {person.get_username()}"
    audit.record(Action.PERSON_LOGIN, tenant=None, by=person, target=named)


def record_failed_login(typed: str, *, locked_out: bool) -> None:
    """Thousands of them are a few rows, which count them."""
    known = "\0" not in typed and User.objects.filter(username=typed).exists()
    now = origin.current()
    failure = _Failure(typed if known else "", now.address, now.via, locked_out)
    audit.record_many(
        _event(each, count) for each, count in _failures.count(failure, time.monotonic())
    )


def _event(failure: _Failure, count: int) -> Event:
    return Event(
        Action.PERSON_LOGIN_FAILED,
        tenant=None,
        actor=Actor(ActorKind.UNKNOWN, ""),
        target=f"person {failure.username}" if failure.username else "",
        address=failure.address,
        via=failure.via,
        count=count,
        detail={"known_username": bool(failure.username), "locked_out": failure.locked_out},
    )
