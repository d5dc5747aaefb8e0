"""The audit of the tenants that the caller administers, newest first."""

from django.db.models import QuerySet
from django_filters import CharFilter, ChoiceFilter, FilterSet, UUIDFilter
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_view
from rest_framework import serializers

from tenants.api.base.filters import MomentFilter, VisibleFilter
from tenants.api.base.serializers import RowSerializer
from tenants.api.base.viewsets import ResourceViewSet
from tenants.models import AuditEntry, Role, Tenant
from tenants.models.audit import TENANT_ACTION_CHOICES


class AuditEntrySerializer(RowSerializer[AuditEntry]):
    tenant = serializers.UUIDField(source="tenant_uuid", allow_null=True, read_only=True)
    device = serializers.UUIDField(source="device_uuid", allow_null=True, read_only=True)
    sealed = serializers.SerializerMethodField(help_text="Whether it is in the hash chain.")

    class Meta:
        model = AuditEntry
        fields = [
            *("id", "at", "tenant", "action", "actor_kind", "actor", "device", "target"),
            *("address", "via", "count", "detail", "sealed"),
        ]

    def get_sealed(self, entry: AuditEntry) -> bool:
        return entry.sequence is not None


class AuditEntryFilters(FilterSet):
    tenant = VisibleFilter(Tenant, method="of_tenant")
    action = ChoiceFilter(choices=TENANT_ACTION_CHOICES)
    actor = CharFilter(max_length=200, help_text="The exact name.")
    # A device that was deleted is in the audit still.
    device = UUIDFilter(field_name="device_uuid")
    since = MomentFilter(field_name="at", lookup_expr="gte")
    until = MomentFilter(field_name="at", lookup_expr="lt", help_text="Excluded.")

    @extend_schema_field(OpenApiTypes.UUID)
    def of_tenant(
        self, entries: QuerySet[AuditEntry], name: str, tenant: Tenant
    ) -> QuerySet[AuditEntry]:
        return entries.filter(tenant_uuid=tenant.pk)


@extend_schema(tags=["Audit"])
@extend_schema_view(
    list=extend_schema(summary="List the audit, newest first"),
    retrieve=extend_schema(summary="Show an entry of the audit"),
)
class AuditEntryViewSet(ResourceViewSet[AuditEntry]):
    queryset = AuditEntry.objects.none()
    serializer_class = AuditEntrySerializer
    filterset_class = AuditEntryFilters
    lookup_field = "id"
    lookup_value_converter = "int"
    managed = True
    no_store = True
    roles = {"list": Role.ADMIN, "retrieve": Role.ADMIN}
    ordering_fields = ("id",)
    ordering = "-id"
