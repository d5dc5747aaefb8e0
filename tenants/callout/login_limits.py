"""How often somebody may try to log in."""

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
    """Beside a name from one address, which axes locks by itself, an address is locked from which
    failures under many names come. Not this computer's own, which may stand for a proxy, and so
    for everybody."""

    def user_login_failed(
        self,
        sender: object,
        credentials: dict[str, Any],
        request: HttpRequest | None = None,
        **kwargs: Any,
    ) -> None:
        """Also fill the admin's list of failed sign-ins: one row for each password that was
        looked at. Who is locked is not listed again with each attempt; the audit counts those."""
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
        # Of IPv6 addresses whoever has one has its whole network; of IPv4 one may be an office's.
        if isinstance(network := network_of(address), IPv6Network):
            first, last = str(network[0]), str(network[-1])
        attempts = AccessAttempt.objects.filter(
            ip_address__gte=first,
            ip_address__lte=last,
            attempt_time__gte=get_cool_off_threshold(request),
        )
        return attempts.aggregate(sum=Sum("failures_since_start"))["sum"] or 0
