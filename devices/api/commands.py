"""Commands to one device: issue, list, cancel, retry."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.urls import reverse
from django_filters import CharFilter, ChoiceFilter, FilterSet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.mixins import CreateModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from devices.api.serializers import (
    LARGE_FIELDS,
    CommandNameField,
    DeadlineField,
    JsonObjectField,
)
from devices.commands import issue as commands
from devices.models import BulkCommand, Command, CommandState, Device
from devices.presence.coverage import current_cutoffs
from tenants.api.base.etags import answer_unless_known
from tenants.api.base.filters import MomentFilter, VisibleFilter
from tenants.api.base.idempotency import KEY, key_of
from tenants.api.base.serializers import RowSerializer, StrictSerializer, VisibleField
from tenants.api.base.viewsets import ResourceViewSet
from tenants.models import Role, Tenant


class CommandSummarySerializer(RowSerializer[Command]):
    """A command without its result, which may be large."""

    device = VisibleField(Device)
    device_name = serializers.CharField(source="device.name", read_only=True)
    tenant = serializers.UUIDField(source="device.tenant_id", read_only=True)
    command = CommandNameField()
    parameters = JsonObjectField(required=False, default=dict)
    deadline = DeadlineField(
        required=False,
        help_text="When you issue it: how long it may wait, in seconds or as 90m, 24h, at most "
        "30d. In answers: the moment.",
    )
    created_by = serializers.CharField(
        source="created_by.username", allow_null=True, default=None, read_only=True
    )
    bulk = serializers.SlugRelatedField[BulkCommand](
        slug_field="uuid", read_only=True, allow_null=True
    )
    retry_of = serializers.SlugRelatedField[Command](
        slug_field="uuid", read_only=True, allow_null=True
    )

    class Meta:
        model = Command
        fields = [
            *("uuid", "tenant", "device", "device_name", "command", "parameters", "state"),
            *("created_by", "created_at", "deadline", "sent_at", "delivered_at", "finished_at"),
            *("error", "bulk", "retry_of", "request_id"),
        ]
        read_only_fields = [
            *("uuid", "state", "created_at", "sent_at", "delivered_at", "finished_at", "error"),
            "request_id",
        ]


class CommandSerializer(CommandSummarySerializer):
    device_offline_since = serializers.SerializerMethodField(
        help_text="Since when the device is offline, while the command has not ended."
    )

    class Meta(CommandSummarySerializer.Meta):
        fields = [
            *CommandSummarySerializer.Meta.fields,
            *("result", "result_cut_from", "device_offline_since"),
        ]
        read_only_fields = [
            *CommandSummarySerializer.Meta.read_only_fields,
            *("result", "result_cut_from"),
        ]

    def get_device_offline_since(self, row: Command) -> datetime | None:
        return row.device.offline_since(current_cutoffs()) if row.is_open else None


class CommandFilters(FilterSet):
    tenant = VisibleFilter(Tenant, field_name="device__tenant")
    device = VisibleFilter(Device)
    bulk = VisibleFilter(BulkCommand, to_field_name="uuid")
    state = ChoiceFilter(choices=CommandState.choices)
    command = CharFilter(max_length=100)
    since = MomentFilter(field_name="created_at", lookup_expr="gte")
    until = MomentFilter(field_name="created_at", lookup_expr="lt")


@extend_schema(tags=["Commands"])
@extend_schema_view(
    list=extend_schema(summary="List commands, without their results"),
    retrieve=extend_schema(summary="Show a command with its result"),
)
class CommandViewSet(CreateModelMixin, ResourceViewSet[Command]):
    queryset = Command.objects.none()
    serializer_class = CommandSerializer
    filterset_class = CommandFilters
    roles = {"create": Role.OPERATOR, "cancel": Role.OPERATOR, "retry": Role.OPERATOR}
    # The order in which they were issued.
    ordering_fields = ("id",)
    ordering = "-id"
    deferred: Collection[str] = ()

    def get_serializer_class(self) -> type[CommandSummarySerializer]:
        return CommandSummarySerializer if self.action == "list" else CommandSerializer

    def get_queryset(self) -> Any:
        rows = (
            super()
            .get_queryset()
            .select_related(
                "device__connectivity", "device__tenant", "created_by", "bulk", "retry_of"
            )
        )
        return rows.defer("result") if self.action == "list" else rows.defer(*self.deferred)

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        def find(deferred: Collection[str]) -> Command:
            self.deferred = deferred
            return self.get_object()

        return answer_unless_known(request, self.get_serializer, find, LARGE_FIELDS)

    @extend_schema(
        summary="Issue a command",
        parameters=[KEY],
        responses={202: CommandSerializer, 200: CommandSerializer},
    )
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Issue it: 202, or 200 if the Idempotency-Key has been used for it before."""
        asked = self.get_serializer(data=request.data)
        asked.is_valid(raise_exception=True)
        issued = commands.issue_once(key_of(request), **asked.validated_data, by=self.person)
        return self._issued(*issued)

    @extend_schema(summary="Cancel or give up a command", request=None, responses=CommandSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, uuid: str) -> Response:
        """Cancel a waiting command. One that was sent cannot be recalled: it is given up, and
        counts as failed unless a result arrives later."""
        StrictSerializer(data=request.data).is_valid(raise_exception=True)
        commands.cancel(self.get_object(), by=self.person)
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(
        summary="Retry a command",
        request=None,
        parameters=[KEY],
        responses={202: CommandSerializer, 200: CommandSerializer},
    )
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, uuid: str) -> Response:
        """Issue the same command again, once this one has ended: 202, or 200 if the Idempotency-Key
        has been used for it before."""
        StrictSerializer(data=request.data).is_valid(raise_exception=True)
        return self._issued(
            *commands.retry_once(key_of(request), self.get_object(), by=self.person)
        )

    def _issued(self, command: Command, new: bool) -> Response:
        row = self.get_queryset().get(pk=command.pk)
        path = reverse("api:command-detail", args=[row.uuid])
        return Response(
            self.get_serializer(row).data,
            status=202 if new else 200,
            headers={"Location": self.request.build_absolute_uri(path)},
        )
