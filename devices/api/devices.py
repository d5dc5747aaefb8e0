"""Devices: listed, renamed, moved, tagged, described, archived and deleted."""

from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiParameter,
    extend_schema,
    extend_schema_field,
    extend_schema_view,
)
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.mixins import DestroyModelMixin, UpdateModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from devices.enrolment.credentials import delete_devices
from devices.filters.devices import DeviceFilters
from devices.inventory.archive import archive_device, unarchive_device
from devices.inventory.changes import change_device
from devices.inventory.tags import MOST_ON_A_DEVICE
from devices.models import CustomField, Device
from devices.models.connectivity import PRESENCES
from devices.presence.coverage import current_cutoffs
from devices.presence.rules import Cutoffs, Status
from tenants.api.base.permissions import require
from tenants.api.base.serializers import (
    BoundedListField,
    RowSerializer,
    StrictSerializer,
    VisibleField,
)
from tenants.api.base.viewsets import ResourceViewSet
from tenants.forms.credentials import REASON_MAX
from tenants.models import Group, Role

FIELD = OpenApiParameter(
    "field.NAME",
    str,
    description="The value of the custom field NAME. `field.NAME__gte` and `field.NAME__lte` "
    "compare numbers and dates, `field.NAME__contains` texts; `field.NAME__empty=true` finds "
    "devices without a value.",
)


@extend_schema_field({"oneOf": [{"type": "string"}, {"type": "number"}], "nullable": True})
class ValueField(serializers.Field[Any, Any, Any, Any]):
    """Accept what a JSON body may set a custom field to; the field's type decides the rest."""

    def __init__(self) -> None:
        super().__init__(allow_null=True)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, str | int | float):
            raise serializers.ValidationError("A text, a number or null.")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class ValuesField(serializers.DictField):
    """The values of custom fields by the field's name. Those that a change leaves out stay as they
    are; null removes one."""

    child = ValueField()

    def to_representation(self, value: dict[str, Any]) -> dict[str, Any]:
        names = self.parent.field_names  # type: ignore[attr-defined]
        return {names[key]: held for key, held in value.items() if key in names}


class DeviceSerializer(RowSerializer[Device]):
    organisation = serializers.UUIDField(source="group.organisation_id", read_only=True)
    group = VisibleField(Group, required=False, help_text="Another one of the same tenant.")
    status = serializers.SerializerMethodField()
    presence = serializers.SerializerMethodField()
    presence_since = serializers.SerializerMethodField()
    last_seen_online = serializers.SerializerMethodField()
    connection_type = serializers.SerializerMethodField()
    agent_version = serializers.SerializerMethodField()
    hostname = serializers.CharField(source="said_hostname", read_only=True, allow_null=True)
    platform = serializers.CharField(source="said_platform", read_only=True, allow_null=True)
    tags = BoundedListField(
        child=serializers.CharField(max_length=50),
        source="tag_names",
        required=False,
        max_length=MOST_ON_A_DEVICE,
        help_text="Names of the tenant's tags; a change replaces all of them.",
    )
    custom_fields = ValuesField(source="custom_values", required=False)

    class Meta:
        model = Device
        fields = [
            *("uuid", "tenant", "organisation", "group", "name", "status", "presence"),
            *("presence_since", "last_seen_online", "connection_type", "agent_version"),
            *("hostname", "platform", "tags", "custom_fields", "created_at"),
            *("revoked_at", "revoked_reason", "archived_at", "archived_reason"),
        ]
        read_only_fields = [
            *("tenant", "created_at"),
            *("revoked_at", "revoked_reason", "archived_at", "archived_reason"),
        ]

    @cached_property
    def cutoffs(self) -> Cutoffs:
        """The moments between the statuses, read once for all devices of an answer."""
        return current_cutoffs()

    @cached_property
    def field_names(self) -> dict[str, str]:
        """The names of the custom fields of all devices of an answer, read at once."""
        rows: Any = getattr(self.parent, "instance", None) or [self.instance]
        fields = CustomField.objects.visible_to(self.context["request"].user)
        fields = fields.filter(tenant__in={row.tenant_id for row in rows})
        return {field.key: field.name for field in fields}

    @extend_schema_field(serializers.ChoiceField([each.value for each in Status]))
    def get_status(self, device: Device) -> str:
        return device.status(self.cutoffs).value

    @extend_schema_field(serializers.ChoiceField(PRESENCES, allow_null=True))
    def get_presence(self, device: Device) -> str | None:
        return device.current_presence(self.cutoffs).presence

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_presence_since(self, device: Device) -> datetime | None:
        return device.current_presence(self.cutoffs).since

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_last_seen_online(self, device: Device) -> datetime | None:
        return getattr(device, "connectivity", None) and device.connectivity.last_seen_online

    @extend_schema_field(OpenApiTypes.STR)
    def get_connection_type(self, device: Device) -> str:
        return device.connectivity.connection_type if hasattr(device, "connectivity") else ""

    @extend_schema_field(OpenApiTypes.STR)
    def get_agent_version(self, device: Device) -> str:
        return device.connectivity.agent_version if hasattr(device, "connectivity") else ""


class ArchiveSerializer(StrictSerializer):
    reason = serializers.CharField(max_length=REASON_MAX, required=False, default="")


class DeviceListFilters(DeviceFilters):
    """The filters of devices; in the API, what pages call `q` is `search`."""

    q = None


@extend_schema(tags=["Devices"])
@extend_schema_view(
    list=extend_schema(summary="List devices", parameters=[FIELD]),
    retrieve=extend_schema(summary="Show a device"),
    partial_update=extend_schema(
        summary="Rename, move, tag or describe a device",
        description="To move a device needs the role admin, everything else operator.",
    ),
    destroy=extend_schema(summary="Delete a device with its data; its credentials end"),
)
class DeviceViewSet(UpdateModelMixin, DestroyModelMixin, ResourceViewSet[Device]):
    queryset = Device.objects.none()
    serializer_class = DeviceSerializer
    filterset_class = DeviceListFilters
    search_fields = ("name", "uuid", "connectivity__connection_info__system_info__hostname")
    ordering_fields = ("name", "created_at")
    roles = {"partial_update": Role.OPERATOR}

    def get_queryset(self) -> Any:
        return super().get_queryset().as_listed()

    def perform_update(self, serializer: Any) -> None:
        wanted, device = serializer.validated_data, serializer.instance
        if "group" in wanted:
            require(self.request, device.tenant_id, Role.ADMIN)
        change_device(
            device,
            name=wanted.get("name"),
            group=wanted.get("group"),
            tags=wanted.get("tag_names"),
            values=wanted.get("custom_values"),
            by=self.person,
        )
        serializer.instance = self.get_object()

    def perform_destroy(self, instance: Device) -> None:
        delete_devices([instance], by=self.person)

    @extend_schema(
        summary="Archive a device",
        description="It leaves the fleet, its credentials end, and it gets no commands and cannot "
        "enrol. Its history stays.",
        request=ArchiveSerializer,
        responses=DeviceSerializer,
    )
    @action(detail=True, methods=["post"])
    def archive(self, request: Request, uuid: UUID) -> Response:
        device = self.get_object()
        form = ArchiveSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        archive_device(device, by=self.person, reason=form.validated_data["reason"])
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(
        summary="Bring an archived device back",
        description="Its token is valid again, unless it was revoked before it was archived.",
        request=StrictSerializer,
        responses=DeviceSerializer,
    )
    @action(detail=True, methods=["post"])
    def unarchive(self, request: Request, uuid: UUID) -> Response:
        device = self.get_object()
        StrictSerializer(data=request.data).is_valid(raise_exception=True)
        unarchive_device(device, by=self.person)
        return Response(self.get_serializer(self.get_object()).data)
