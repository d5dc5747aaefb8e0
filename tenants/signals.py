"""Pass Django's signals of logins to the audit."""

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.dispatch import receiver

from tenants.actions.sign_ins import record_failed_login, record_login
from tenants.models import User


@receiver(user_logged_in, dispatch_uid="audit of logins")
def logged_in(sender: object, user: User, **kwargs: Any) -> None:
    record_login(user)


@receiver(user_login_failed, dispatch_uid="audit of failed logins")
def login_failed(
    sender: object, credentials: dict[str, Any], request: Any = None, **kwargs: Any
) -> None:
    locked_out = bool(getattr(request, "axes_locked_out", False))
    record_failed_login(str(credentials.get("username", "")), locked_out=locked_out)
