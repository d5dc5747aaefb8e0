"""Record where people are logged in, and end their sessions on request."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.contrib.sessions.models import Session
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from tenants.audit.writer import record_action
from tenants.models import Action, User, WebSession
from tenants.models.web_sessions import WebSessionQuerySet

# How often the row of a session is written, unless the session is used from another place.
RECORDED_EVERY = timedelta(minutes=1)


def record_session_use(user: User, session_key: str, *, address: str, user_agent: str) -> None:
    """Record where the session was used."""
    now = timezone.now()
    place = {"address": address[:64], "user_agent": user_agent[:300]}
    recent = Q(seen_at__gt=now - RECORDED_EVERY, user=user, **place)
    if WebSession.objects.filter(recent, session_key=session_key).exists():
        return
    # The person may have been deleted meanwhile, perhaps by this very request.
    with suppress(IntegrityError):
        WebSession.objects.bulk_create(
            [WebSession(session_key=session_key, user=user, seen_at=now, **place)],
            update_conflicts=True,
            unique_fields=["session_key"],
            update_fields=["user", "seen_at", *place],
        )


@transaction.atomic
def end_session(session: WebSession, *, by: User) -> None:
    """End the session at once: its next request is anonymous."""
    detail = {"address": session.address, "user_agent": session.user_agent}
    _record(session.user, by, detail)
    _remove(WebSession.objects.filter(pk=session.pk))


@transaction.atomic
def end_other_sessions(user: User, *, keep: str, by: User) -> int:
    """End the user's sessions except for `keep`; return how many were still valid."""
    number = remove_sessions(user, keep=keep)
    if number:
        _record(user, by, {"sessions": number})
    return number


def remove_sessions(user: User, *, keep: str = "") -> int:
    """End sessions without an audit entry, as part of what the caller records."""
    ended = user.web_sessions.exclude(session_key=keep)
    number: int = ended.alive().count()
    _remove(ended)
    return number


def _remove(ended: WebSessionQuerySet) -> None:
    Session.objects.filter(
        session_key__in=list(ended.values_list("session_key", flat=True))
    ).delete()
    ended.delete()


def _record(user: User, by: User, detail: dict[str, Any]) -> None:
    target = f"person {user.get_username()}"
    record_action(Action.SESSION_ENDED, tenant=None, by=by, target=target, detail=detail)
