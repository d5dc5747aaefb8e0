"""Credentials for the broker in the admin, from their issue to their end.

Secrets are not stored, so none is shown.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import (
    ChoicesDropdownFilter,
    DropdownFilter,
    RelatedDropdownFilter,
)
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.paginator import InfinitePaginator

from natsbridge.admin.base import ReadOnlyAdmin, label, moment
from tenants.admin.confirming import confirm, confirm_for_many
from tenants.admin.writing import person_of
from tenants.credentials.revocations import revoke_credential
from tenants.forms.confirmations import REVOKE_CREDENTIAL
from tenants.models import Credential

STATE_KINDS = {
    "live": "success",
    "ending": "warning",
    "expired": "",
    "ended": "danger",
    "suspended": "danger",
}

UNTIL_REVOKED = "until revoked"

# Here the title names the credential and not, as on a tenant's page, its tenant.
REVOKE = replace(REVOKE_CREDENTIAL, title="Revoke {}")


class StateFilter(DropdownFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        return [("valid", "Valid"), ("invalid", "No longer valid")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Credential]
    ) -> QuerySet[Credential]:
        live = Credential.objects.live().filter(tenant__suspended_at=None).values("pk")
        match self.value():
            case "valid":
                return queryset.filter(pk__in=live)
            case "invalid":
                return queryset.exclude(pk__in=live)
        return queryset


class OwnerFilter(DropdownFilter):
    title = "owner"
    parameter_name = "owner"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        return [("tenant", "The tenant itself"), ("device", "A device")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Credential]
    ) -> QuerySet[Credential]:
        if self.value() not in ("tenant", "device"):
            return queryset
        return queryset.filter(device_uuid__isnull=self.value() == "tenant")


@admin.register(Credential)
class CredentialAdmin(ReadOnlyAdmin):
    """Shows a table that grows with each renewal, so nothing here counts all of it."""

    list_display = ("username", "kind", "state", "issued_at", "last_used_at", "until")
    list_select_related = ("tenant",)
    list_filter = (
        StateFilter,
        OwnerFilter,
        ("kind", ChoicesDropdownFilter),
        ("tenant", RelatedDropdownFilter),
    )
    list_filter_submit = True
    search_fields = ("=device_uuid", "=public_key")
    search_help_text = "The UUID of a device or tenant, or a public key"
    sortable_by = ()
    paginator = InfinitePaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    fields = (
        "username",
        "tenant",
        "kind",
        "state",
        "public_key",
        "issued_at",
        "issued_by",
        "first_used_at",
        "last_used_at",
        "expires_at",
        "ends_at",
        "ended_at",
        "ended_by_name",
        "end_reason",
    )
    readonly_fields = ("username", "state")
    actions = ("revoke_selected",)
    actions_detail = ("revoke",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        owner = _uuid_in(search_term)
        if owner is not None:
            of_device = queryset.filter(device_uuid=owner)
            return of_device | queryset.filter(tenant=owner, device_uuid=None), False
        if not search_term:
            return queryset, False
        return queryset.filter(public_key=search_term.strip()), False

    def has_revoke_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("tenants.change_credential")

    @action(
        description="Revoke",
        permissions=["revoke"],
        icon="block",
        variant=ActionVariant.DANGER,
    )
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(Credential, pk=object_id)
        return confirm(self, request, row, REVOKE, lambda form: _revoke(request, row, form))

    @action(description="Revoke selected credentials", permissions=["revoke"])
    def revoke_selected(
        self, request: HttpRequest, queryset: QuerySet[Credential]
    ) -> HttpResponse | None:
        return confirm_for_many(
            self,
            request,
            queryset,
            REVOKE,
            lambda row, form: _revoke(request, row, form),
            action="revoke_selected",
        )

    @admin.display(description="Owner")
    def username(self, credential: Credential) -> str:
        return credential.username

    @admin.display(description="State")
    def state(self, credential: Credential) -> SafeString:
        return state_label(credential)

    @admin.display(description="Until")
    def until(self, credential: Credential) -> str:
        end = credential.ended_at or credential.ends_at or credential.expires_at
        return moment(end, UNTIL_REVOKED)


def _revoke(request: HttpRequest, row: Credential, form: Any) -> None:
    revoke_credential(row, by=person_of(request), reason=form.cleaned_data["reason"])


def _uuid_in(text: str) -> UUID | None:
    """Return the UUID in the text, which may be a username, `device_…` or `tenant_…`."""
    try:
        return UUID(text.strip().rpartition("_")[2])
    except ValueError:
        return None


def state_label(credential: Credential) -> SafeString:
    return label(credential.state, STATE_KINDS[credential.state])


def credential_table(rows: Iterable[Credential], owner: UUID) -> SafeString:
    """Render the rows with links to their pages, and one to all of `owner`, a device or tenant."""
    context = {
        "rows": [(row, state_label(row)) for row in rows],
        "open_end": UNTIL_REVOKED,
        "all": f"{reverse('admin:tenants_credential_changelist')}?q={owner}",
    }
    return render_to_string("admin/credentials.html", context)
