"""Record logins to the web, and failed attempts."""

import time
from dataclasses import dataclass
from typing import Any

from axes.models import AccessFailureLog

from tenants.actions.later import Later
from tenants.audit.rules.coalescer import WINDOW_SECONDS, Coalescer
from tenants.audit.writer import Actor, AuditEvent, record_action, record_events
from tenants.models import Action, ActorKind, User
from tenants.origin import current_origin


@dataclass(frozen=True)
class _Failure:
    """`username` is a known person's; any other name may be a mistyped password."""

    username: str
    address: str
    via: str
    locked_out: bool


_MANY = _Failure("", "many addresses", "", False)


class FailedLogins:
    """Coalesces failed logins: thousands of them become a few rows with counts.

    A web process has no loop that would call `flush`, so a timer writes the counts when the minute
    is over.
    """

    def __init__(self) -> None:
        self._coalescer: Coalescer[_Failure] = Coalescer(others=lambda failure: _MANY)
        self._later = Later(
            "failed logins", lambda: self.flush(at_once=True), lambda: WINDOW_SECONDS
        )

    def record(self, failure: _Failure) -> None:
        self.flush()
        if self._coalescer.admit(failure, time.monotonic()):
            record_events([_event(failure, 1)])
        else:
            self._later.ask()

    def flush(self, *, at_once: bool = False) -> None:
        with self._coalescer.due(time.monotonic(), at_once=at_once) as counted:
            record_events(_event(failure, count) for failure, count in counted)

    def cancel(self) -> None:
        """Stop the timer; counts are no longer written by themselves."""
        self._later.cancel()


_failures = FailedLogins()


def record_login(person: User) -> None:
    named = f"person {person.get_username()}"
    record_action(Action.PERSON_LOGIN, tenant=None, by=person, target=named)


def record_failed_login(typed: str, *, locked_out: bool) -> None:
    now = current_origin()
    _failures.record(_Failure(_known(typed), now.address, now.via, locked_out))


def list_failed_login(request: Any, typed: str) -> None:
    """Add a row to the admin's list of failed sign-ins. `request` is one that axes has seen.

    Axes can do this itself, but it stores any name that was typed, and removes the newest rows of a
    name with more than 1,000.
    """
    AccessFailureLog.objects.create(
        username=_known(typed),
        ip_address=request.axes_ip_address,
        user_agent=request.axes_user_agent,
        http_accept=request.axes_http_accept,
        path_info=request.axes_path_info,
        locked_out=request.axes_locked_out,
    )


def _known(typed: str) -> str:
    """Return a known username, or an empty string: another name may be a mistyped password."""
    return typed if "\0" not in typed and User.objects.filter(username=typed).exists() else ""


def _event(failure: _Failure, count: int) -> AuditEvent:
    return AuditEvent(
        Action.PERSON_LOGIN_FAILED,
        tenant=None,
        actor=Actor(ActorKind.UNKNOWN, ""),
        target=f"person {failure.username}" if failure.username else "",
        address=failure.address,
        via=failure.via,
        count=count,
        detail={"known_username": bool(failure.username), "locked_out": failure.locked_out},
    )
