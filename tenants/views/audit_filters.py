"""The audit page's query string."""

from datetime import date, datetime, time, timedelta
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils import timezone

from tenants.models import AuditFilter, Role, Tenant, User
from tenants.models.audit import TENANT_ACTION_CHOICES, AuditEntryQuerySet


class AuditFilters(forms.Form):
    """Days are in UTC and `until` is included; `before` is the id of an entry."""

    tenant = forms.ModelChoiceField(Tenant.objects.none(), required=False)
    action = forms.ChoiceField(required=False, choices=[("", "Everything"), *TENANT_ACTION_CHOICES])
    actor = forms.CharField(required=False, max_length=200, label="Who")
    device = forms.UUIDField(required=False, label="Device's UUID")
    since = forms.DateField(required=False, label="From")
    until = forms.DateField(required=False, label="Until")
    before = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1)

    def __init__(self, data: Any, entries: AuditEntryQuerySet, person: User) -> None:
        """Filter `entries`, which are those that the person may see."""
        super().__init__(data)
        self._entries = entries
        tenants = Tenant.objects.visible_to(person, Role.ADMIN, reading=True)
        self.fields["tenant"].queryset = tenants  # type: ignore[attr-defined]

    def tenants(self) -> QuerySet[Tenant]:
        """Return the tenants that the form asks for."""
        choices: QuerySet[Tenant] = self.fields["tenant"].queryset  # type: ignore[attr-defined]
        chosen = self.cleaned_data["tenant"]
        return choices.filter(pk=chosen.pk) if chosen else choices

    def entries(self) -> AuditEntryQuerySet:
        """Return the entries that a valid form asks for."""
        entries = self._entries.matching(self._wanted())
        if tenant := self.cleaned_data["tenant"]:
            entries = entries.of_tenant(tenant)
        if before := self.cleaned_data["before"]:
            entries = entries.filter(id__lt=before)
        return entries

    def described(self) -> dict[str, str]:
        return self._wanted().described()

    @property
    def active(self) -> bool:
        names = set(self.fields) - {"before"}
        return any(self.data.get(name) for name in names)

    def _wanted(self) -> AuditFilter:
        given = self.cleaned_data
        return AuditFilter(
            action=given["action"],
            actor=given["actor"],
            device=given["device"],
            since=_midnight(given["since"]),
            until=_midnight(given["until"], days=1),
        )


def _midnight(day: date | None, days: int = 0) -> datetime | None:
    if day is None or day >= date.max - timedelta(days=1):
        return None
    return datetime.combine(day + timedelta(days=days), time(), timezone.get_current_timezone())
