"""Limit failed logins to the web, by name and by address."""

from ipaddress import IPv6Network, ip_address
from typing import Any

from axes.attempts import get_cool_off_threshold
from axes.handlers.database import AxesDatabaseHandler
from axes.helpers import get_failure_limit
from axes.models import AccessAttempt
from django.conf import settings
from django.db.models import Sum
from django.http import HttpRequest

from tenants.actions.sign_ins import list_failed_login
from tenants.origin import network_of


class LoginHandler(AxesDatabaseHandler):
    """Also locks an address that fails under many names; axes locks one name from one address.

    A loopback address is never locked, since it may be a proxy's, and so everybody's.
    """

    def user_login_failed(
        self,
        sender: object,
        credentials: dict[str, Any],
        request: HttpRequest | None = None,
        **kwargs: Any,
    ) -> None:
        """Also add a row to the admin's list of failed sign-ins for each checked password.

        An attempt during a lock is not listed; the audit counts those.
        """
        refused_unseen = request is None or self.is_locked(request, credentials)
        super().user_login_failed(sender, credentials, request, **kwargs)
        if not refused_unseen:
            list_failed_login(request, str(credentials.get("username", "")))

    def get_failures(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        failures: int = super().get_failures(request, credentials)
        if self._of_address(request) >= settings.LOGIN_ADDRESS_FAILURE_LIMIT:
            limit: int = get_failure_limit(request, credentials)
            return max(failures, limit)
        return failures

    def _of_address(self, request: HttpRequest) -> int:
        address = request.axes_ip_address  # type: ignore[attr-defined]
        if not address or ip_address(address).is_loopback:
            return 0
        first = last = address
        # Who has an IPv6 address has its whole network; an IPv4 network may be many people's.
        if isinstance(network := network_of(address), IPv6Network):
            first, last = str(network[0]), str(network[-1])
        attempts = AccessAttempt.objects.filter(
            ip_address__gte=first,
            ip_address__lte=last,
            attempt_time__gte=get_cool_off_threshold(request),
        )
        return attempts.aggregate(sum=Sum("failures_since_start"))["sum"] or 0
