"""Exports of a tenant: request one, wait until it is ready, download it."""

from typing import Any

from django.http import StreamingHttpResponse
from django_filters import ChoiceFilter, FilterSet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.mixins import CreateModelMixin
from rest_framework.request import Request

from tenants.api.base.filters import VisibleFilter
from tenants.api.base.serializers import RowSerializer, VisibleField
from tenants.api.base.viewsets import ResourceViewSet
from tenants.export.download import download
from tenants.export.exports import request_export
from tenants.models import Role, Tenant, TenantExport


class ExportSerializer(RowSerializer[TenantExport]):
    tenant = VisibleField(Tenant)
    is_downloadable = serializers.BooleanField(read_only=True)

    class Meta:
        model = TenantExport
        fields = [
            *("uuid", "tenant", "requested_at", "requested_by_name", "state", "is_downloadable"),
            *("finished_at", "expires_at", "row_count", "size_bytes", "error"),
        ]
        read_only_fields = [name for name in fields if name != "tenant"]


class ExportFilters(FilterSet):
    tenant = VisibleFilter(Tenant)
    state = ChoiceFilter(choices=TenantExport.State.choices)


@extend_schema(tags=["Exports"])
@extend_schema_view(
    list=extend_schema(summary="List exports"),
    retrieve=extend_schema(summary="Show whether an export is ready"),
    create=extend_schema(summary="Request an export of all that a tenant has"),
)
class ExportViewSet(CreateModelMixin, ResourceViewSet[TenantExport]):
    queryset = TenantExport.objects.none()
    serializer_class = ExportSerializer
    filterset_class = ExportFilters
    roles = {"list": Role.ADMIN, "retrieve": Role.ADMIN, "download": Role.ADMIN}
    ordering_fields = ("requested_at",)
    ordering = "-requested_at"

    def perform_create(self, serializer: Any) -> None:
        serializer.instance = request_export(**serializer.validated_data, by=self.person)

    @extend_schema(
        summary="Download an export",
        responses={(200, "application/gzip"): OpenApiTypes.BINARY},
    )
    @action(detail=True, methods=["get"])
    def download(self, request: Request, uuid: str) -> StreamingHttpResponse:
        """Return JSON lines, compressed by gzip. 409 until it is ready, and when it has expired."""
        return download(self.get_object(), by=self.person)
