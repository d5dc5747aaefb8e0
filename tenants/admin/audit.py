"""The audit in the admin: search, filter and export it. Nobody can change it."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase
from django.template.defaultfilters import truncatechars
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import (
    ChoicesDropdownFilter,
    DropdownFilter,
    FieldTextFilter,
    RangeDateTimeFilter,
)
from unfold.paginator import InfinitePaginator

from natsbridge.admin.base import ReadOnlyAdmin, label, pretty_json
from tenants.admin.writing import person_of
from tenants.audit.export import FORMATS, export
from tenants.audit.rules.wording import in_words
from tenants.audit.writer import record_export
from tenants.models import AuditEntry, Tenant

PLATFORM = "none"


class TenantFilter(DropdownFilter):
    title = "tenant"
    parameter_name = "tenant"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        tenants = Tenant.objects.values_list("pk", "name")
        return [(PLATFORM, "No tenant"), *((str(pk), name) for pk, name in tenants)]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[AuditEntry]
    ) -> QuerySet[AuditEntry]:
        value = self.value()
        if value == PLATFORM:
            return queryset.filter(tenant_uuid=None)
        tenant = uuid_or_none(value or "")
        return queryset.filter(tenant_uuid=tenant) if tenant else queryset


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    """Shows a table that grows without end, so nothing here counts or sorts all of it.

    A hierarchy of dates would, and the filter by time replaces it.
    """

    list_display = ("at", "action_label", "who", "target", "summary", "via", "address", "sealed")
    list_display_links = ("at",)
    list_filter = (
        TenantFilter,
        ("action", ChoicesDropdownFilter),
        ("actor_kind", ChoicesDropdownFilter),
        ("at", RangeDateTimeFilter),
        ("device_uuid", FieldTextFilter),
    )
    list_filter_submit = True
    list_before_template = "admin/audit_export.html"
    search_fields = ("actor", "target", "address")
    search_help_text = "An actor, a target, an address, or the UUID of a device or tenant"
    sortable_by = ()
    ordering = ("-id",)
    paginator = InfinitePaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = None
    fields = (
        "at",
        "action_label",
        "who",
        "actor_kind",
        "target",
        "tenant",
        "device_uuid",
        "address",
        "via",
        "count",
        "pretty_detail",
        "sequence",
        "seal",
    )
    readonly_fields = fields

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.export_view)
        name = "tenants_auditentry_export"
        return [path("export/<str:format>/", view, name=name), *super().get_urls()]

    def export_view(self, request: HttpRequest, format: str) -> HttpResponseBase:
        """Export the rows of all pages of the list under the same query."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if format not in FORMATS:
            raise Http404
        shown = self.get_changelist_instance(request).get_queryset(request)
        record_export(
            uuid_or_none(request.GET.get("tenant", "")),
            by=person_of(request),
            format=format,
            wanted=request.GET.dict(),
        )
        return export(shown, format)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        wanted = uuid_or_none(search_term)
        if wanted is not None:
            return queryset.filter(device_uuid=wanted) | queryset.filter(tenant_uuid=wanted), False
        found: tuple[QuerySet[Any], bool] = super().get_search_results(
            request, queryset, search_term
        )
        return found

    @admin.display(description="What")
    def action_label(self, entry: AuditEntry) -> str:
        times = f" ({entry.count} times)" if entry.count > 1 else ""
        return f"{entry.get_action_display()}{times}"

    @admin.display(description="Who")
    def who(self, entry: AuditEntry) -> str:
        return entry.actor or entry.get_actor_kind_display()

    @admin.display(description="Detail")
    def summary(self, entry: AuditEntry) -> str:
        return truncatechars(in_words(entry.detail), 100) if entry.detail else ""

    @admin.display(description="Tenant")
    def tenant(self, entry: AuditEntry) -> str | SafeString:
        if entry.tenant_uuid is None:
            return "-"
        tenant = Tenant.objects.filter(pk=entry.tenant_uuid).first()
        return format_html("{} {}", tenant or "deleted", entry.tenant_uuid)

    @admin.display(description="Detail")
    def pretty_detail(self, entry: AuditEntry) -> SafeString:
        return pretty_json(entry.detail)

    @admin.display(description="Seal")
    def sealed(self, entry: AuditEntry) -> SafeString:
        if entry.sequence is None:
            return label("Not yet", "warning")
        return label("Sealed", "success")


def uuid_or_none(text: str) -> UUID | None:
    try:
        return UUID(text.strip())
    except ValueError:
        return None
