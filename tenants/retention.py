"""How long the rows of this app are kept, and those of the libraries for logging in."""

from datetime import datetime, timedelta

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db.models import QuerySet

from natsbridge.retention.engine import Batches, retention
from tenants.audit.writer import prune_audit
from tenants.models import (
    ApiToken,
    AuditEntry,
    EnrollmentKey,
    FloodBlock,
    IdempotentRequest,
    OneTimeSecret,
    WebSession,
)
from tenants.models.idempotency import IDEMPOTENCY_LIFETIME
from tenants.models.one_time import LIFETIME


def _audit_before(now: datetime) -> datetime:
    return now - timedelta(days=settings.AUDIT_DAYS)


def _remove_audit_entries(now: datetime) -> Batches:
    return prune_audit(_audit_before(now))


@retention.kind("audit entries", removal=_remove_audit_entries)
def audit_entries(now: datetime) -> QuerySet[AuditEntry]:
    return AuditEntry.objects.exclude(sequence=None).filter(at__lt=_audit_before(now))


@retention.kind("enrolment keys")
def enrolment_keys(now: datetime) -> QuerySet[EnrollmentKey]:
    return EnrollmentKey.objects.spent(now - timedelta(days=settings.ENDED_DAYS))


@retention.kind("API tokens")
def api_tokens(now: datetime) -> QuerySet[ApiToken]:
    return ApiToken.objects.filter(expiry__lt=now - timedelta(days=settings.ENDED_DAYS))


@retention.kind("secrets that were not shown")
def unshown_secrets(now: datetime) -> QuerySet[OneTimeSecret]:
    return OneTimeSecret.objects.filter(created_at__lt=now - LIFETIME)


@retention.kind("idempotency keys")
def idempotency_keys(now: datetime) -> QuerySet[IdempotentRequest]:
    return IdempotentRequest.objects.filter(at__lt=now - IDEMPOTENCY_LIFETIME)


@retention.kind("flood blocks")
def flood_blocks(now: datetime) -> QuerySet[FloodBlock]:
    return FloodBlock.objects.filter(at__lt=now - timedelta(days=settings.ENDED_DAYS))


@retention.kind("sessions")
def sessions(now: datetime) -> QuerySet[Session]:
    return Session.objects.filter(expire_date__lt=now)


@retention.kind("places of sessions")
def places_of_sessions(now: datetime) -> QuerySet[WebSession]:
    """Keep each for a day after its use, in case its session is just being saved."""
    alive = Session.objects.filter(expire_date__gt=now)
    old = WebSession.objects.filter(seen_at__lt=now - timedelta(days=1))
    return old.exclude(session_key__in=alive.values("session_key"))


@retention.kind("sign-in attempts")
def sign_in_attempts(now: datetime) -> QuerySet[AccessAttempt]:
    """Select old attempts; those younger than AXES_COOLOFF_TIME still lock a name."""
    return AccessAttempt.objects.filter(attempt_time__lt=_sign_ins_before(now))


@retention.kind("failed sign-ins")
def failed_sign_ins(now: datetime) -> QuerySet[AccessFailureLog]:
    return AccessFailureLog.objects.filter(attempt_time__lt=_sign_ins_before(now))


@retention.kind("sign-ins")
def sign_ins(now: datetime) -> QuerySet[AccessLog]:
    return AccessLog.objects.filter(attempt_time__lt=_sign_ins_before(now))


def _sign_ins_before(now: datetime) -> datetime:
    return now - timedelta(days=settings.SIGN_IN_DAYS)
