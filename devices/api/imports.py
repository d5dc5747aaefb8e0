"""Imports of devices that were registered elsewhere."""

from collections.abc import Mapping
from typing import IO, Any

from django_filters import FilterSet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from drf_spectacular.utils import extend_schema_view as described
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from devices.models import DeviceImport
from devices.onboarding import imports, rules
from tenants.api.base.filters import VisibleFilter
from tenants.api.base.parsers import ShallowJSONParser
from tenants.api.base.serializers import RowSerializer, StrictSerializer, VisibleField
from tenants.api.base.viewsets import ResourceViewSet
from tenants.models import Group, Role, Tenant

CSV = "text/csv"


class CsvParser(BaseParser):
    """Hand over a CSV file as it is; the import reads it, line by line."""

    media_type = CSV

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        return {"csv": stream.read()}


class ImportedDevice(serializers.Serializer[Any]):
    """A row of an import; CSV has the same columns."""

    uuid = serializers.UUIDField(help_text="The UUID that the device has already.")
    name = serializers.CharField(max_length=255)
    group = serializers.CharField(
        max_length=200, required=False, help_text="The group's name or UUID."
    )
    hardware_info = serializers.DictField(required=False)
    connection_type = serializers.CharField(
        max_length=20, required=False, help_text=f"By default {rules.DEFAULT_TYPE}."
    )


@extend_schema_field(ImportedDevice(many=True))
class RowsField(serializers.Field[Any, Any, Any, Any]):
    """Accept a list; the import names what is wrong with each item."""

    def to_internal_value(self, data: Any) -> rules.Rows:
        if not isinstance(data, list):
            raise ValidationError("Not a list.")
        return rules.read_items(data)


class ImportOptions(StrictSerializer):
    tenant = VisibleField(Tenant)
    group = VisibleField(Group, required=False, help_text="For devices that name none.")
    dry_run = serializers.BooleanField(
        required=False, default=False, help_text="Only say what would be done."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        group = attrs.get("group")
        if group and group.tenant_id != attrs["tenant"].pk:
            raise ValidationError({"group": f"There is no group {group.pk} in this tenant."})
        return attrs


class ImportBody(ImportOptions):
    devices = RowsField()


class ImportErrorAnswer(serializers.Serializer[Any]):
    line = serializers.IntegerField(help_text="Of CSV; or the place in `devices`, from 1.")
    column = serializers.CharField(help_text="Empty where it is about the whole row.")
    detail = serializers.CharField()


class ImportAnswer(serializers.Serializer[Any]):
    uuid = serializers.UUIDField(allow_null=True, source="record.pk", default=None)
    created = serializers.ListField(child=serializers.UUIDField())
    existing = serializers.ListField(
        child=serializers.UUIDField(), help_text="Already in the tenant, and left as they are."
    )
    error_count = serializers.IntegerField(help_text="Of a dry run; an import is refused.")
    errors = ImportErrorAnswer(  # type: ignore[assignment]
        many=True, help_text=f"The first {rules.MOST_ERRORS}."
    )


class UndoneImportAnswer(serializers.Serializer[Any]):
    deleted = serializers.IntegerField()
    kept = serializers.IntegerField(help_text="Their agents have logged in to the broker.")


class DeviceImportSerializer(RowSerializer[DeviceImport]):
    class Meta:
        model = DeviceImport
        fields = ["uuid", "tenant", "created_at", "created_by_name", "device_count", "undone_at"]
        read_only_fields = fields


class DeviceImportFilters(FilterSet):
    tenant = VisibleFilter(Tenant)


FOR_CSV = [
    OpenApiParameter("tenant", OpenApiTypes.UUID, description="With CSV: the tenant."),
    OpenApiParameter("group", OpenApiTypes.UUID, description="With CSV: for rows without one."),
    OpenApiParameter("dry_run", OpenApiTypes.BOOL, description="With CSV: write nothing."),
]


@extend_schema(tags=["Moving a fleet"])
@described(
    list=extend_schema(summary="List imports of devices"),
    retrieve=extend_schema(summary="Show an import of devices"),
)
class DeviceImportViewSet(ResourceViewSet[DeviceImport]):
    queryset = DeviceImport.objects.none()
    serializer_class = DeviceImportSerializer
    filterset_class = DeviceImportFilters
    parser_classes = [ShallowJSONParser, CsvParser]
    roles = {"list": Role.ADMIN, "retrieve": Role.ADMIN}
    ordering_fields = ("created_at",)
    ordering = "-created_at"

    def query_parameters(self) -> set[str]:
        if self.action == "create" and self._is_csv:
            return set(ImportOptions().fields)
        return super().query_parameters()

    @extend_schema(
        summary="Import devices under the UUIDs they have, all or none",
        parameters=FOR_CSV,
        request={"application/json": ImportBody, CSV: OpenApiTypes.STR},
        responses={201: ImportAnswer, 200: ImportAnswer},
    )
    def create(self, request: Request) -> Response:
        """Import devices from JSON, or from CSV whose first line names the columns.

        Either all are imported, or every error is named. A dry run (200) answers what would be
        imported, with the errors. Devices that are in the tenant already stay as they are.
        """
        given = request.query_params.dict() if self._is_csv else request.data
        checked = (ImportOptions if self._is_csv else ImportBody)(
            data=given, context=self.get_serializer_context()
        )
        checked.is_valid(raise_exception=True)
        wanted = checked.validated_data
        data: Any = request.data
        read = rules.read_csv(data.get("csv", b"")) if self._is_csv else wanted["devices"]
        if wanted["dry_run"]:
            report = imports.examine(wanted["tenant"], read, group=wanted.get("group"))
        else:
            report = imports.import_devices(
                wanted["tenant"], read, group=wanted.get("group"), by=self.person
            )
        return Response(ImportAnswer(report).data, status=201 if report.record else 200)

    @extend_schema(summary="Undo an import", request=None, responses=UndoneImportAnswer)
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, uuid: str) -> Response:
        """Delete its devices, but those whose agents have logged in to the broker."""
        deleted, kept = imports.undo_import(self.get_object(), by=self.person)
        return Response({"deleted": deleted, "kept": kept})

    @property
    def _is_csv(self) -> bool:
        return (self.request.content_type or "").partition(";")[0].strip().lower() == CSV
