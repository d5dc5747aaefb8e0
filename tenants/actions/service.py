"""Pause and resume the service, for staff.

Both are recorded although no subscriber runs: the next one follows.
"""

from django.db import transaction

from natsbridge.subscriber import pause
from tenants.audit.writer import actor_name, record_action
from tenants.models import Action, User


@transaction.atomic
def pause_service(*, by: User, reason: str = "") -> None:
    """Make every subscriber stop reading reports and delivering commands, until it is resumed."""
    if pause.pause(by=actor_name(by), reason=reason):
        record_action(Action.SERVICE_PAUSED, tenant=None, by=by, detail={"reason": reason})


@transaction.atomic
def resume_service(*, by: User) -> None:
    if pause.resume():
        record_action(Action.SERVICE_RESUMED, tenant=None, by=by)
