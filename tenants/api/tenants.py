"""Tenants: their members see them, their admins rename them, and staff create them."""

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.mixins import CreateModelMixin, UpdateModelMixin
from rest_framework.permissions import BasePermission

from tenants.actions import tenants
from tenants.api.base.permissions import HasTenantRole, IsStaff
from tenants.api.base.serializers import RowSerializer
from tenants.api.base.viewsets import ResourceViewSet
from tenants.models import Tenant


class TenantSerializer(RowSerializer[Tenant]):
    class Meta:
        model = Tenant
        fields = ["uuid", "name", "created_at", "suspended_at"]
        read_only_fields = ["created_at", "suspended_at"]


@extend_schema(tags=["Tenants"])
@extend_schema_view(
    list=extend_schema(summary="List your tenants"),
    retrieve=extend_schema(summary="Show a tenant"),
    create=extend_schema(summary="Create a tenant (staff)"),
    partial_update=extend_schema(summary="Rename a tenant"),
)
class TenantViewSet(CreateModelMixin, UpdateModelMixin, ResourceViewSet[Tenant]):
    queryset = Tenant.objects.none()
    serializer_class = TenantSerializer
    managed = True
    ordering_fields = ("name", "created_at")
    search_fields = ("name",)

    def get_permissions(self) -> list[BasePermission]:
        return [IsStaff()] if self.action == "create" else [HasTenantRole()]

    def perform_create(self, serializer: Any) -> None:
        serializer.instance = tenants.create_tenant(**serializer.validated_data, by=self.person)

    def perform_update(self, serializer: Any) -> None:
        tenants.rename(serializer.instance, **serializer.validated_data, by=self.person)
