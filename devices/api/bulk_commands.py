"""Commands to many devices: issue, preview, follow, cancel, retry, and their results as a file."""

from typing import Any

from django.db.models import F, Func, IntegerField
from django.http import StreamingHttpResponse
from django.urls import reverse
from django_filters import CharFilter, FilterSet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from devices.api.targets import BulkCommandSerializer as Wanted
from devices.api.targets import BulkPreviewAnswer, asked_of
from devices.commands import bulk
from devices.commands.rules.states import COMMAND_STATES
from devices.models import BulkCommand, Command
from tenants.api.base.filters import MomentFilter, VisibleFilter
from tenants.api.base.idempotency import KEY, key_of
from tenants.api.base.parsers import IgnoreFormat
from tenants.api.base.serializers import RowSerializer, StrictSerializer
from tenants.api.base.viewsets import ResourceViewSet
from tenants.downloads import FORMATS, download
from tenants.models import Role, Tenant

Counts = dict[str, int]

# Each may have 256 KiB.
RESULTS_AT_A_TIME = 50
# The columns of the results in a file, each with the field that it is read from.
RESULTS = {"uuid": "uuid", "device": "device_id", "device_name": "device__name"} | {
    name: name
    for name in (
        *("state", "created_at", "sent_at", "delivered_at", "finished_at"),
        *("error", "result", "result_cut_from"),
    )
}


class BulkSummarySerializer(RowSerializer[BulkCommand]):
    created_by = serializers.CharField(
        source="created_by.username", allow_null=True, default=None, read_only=True
    )
    retry_of = serializers.SlugRelatedField[BulkCommand](
        slug_field="uuid", read_only=True, allow_null=True
    )
    left_out = serializers.DictField(
        child=serializers.IntegerField(),
        read_only=True,
        help_text="Devices that did not get it, counted by reason.",
    )
    counts = serializers.SerializerMethodField(help_text="Its commands, counted by state.")
    open = serializers.SerializerMethodField(help_text="Commands that have not ended yet.")

    class Meta:
        model = BulkCommand
        fields = [
            *("uuid", "tenant", "command", "parameters", "target", "created_by", "created_at"),
            *("deadline", "cancelled_at", "retry_of", "request_id", "total", "left_out"),
            *("counts", "open"),
        ]
        read_only_fields = fields

    def get_counts(self, row: BulkCommand) -> Counts:
        counts: Counts = self.context["counts"][row.pk]
        return counts

    def get_open(self, row: BulkCommand) -> int:
        return sum(self.get_counts(row)[state] for state in COMMAND_STATES.open)


class BulkCommandSerializer(BulkSummarySerializer):
    to_give_up = serializers.SerializerMethodField(
        help_text="Commands sent to devices that are offline now; cancelling gives them up."
    )

    class Meta(BulkSummarySerializer.Meta):
        fields = [*BulkSummarySerializer.Meta.fields, "to_give_up"]
        read_only_fields = fields

    def get_to_give_up(self, row: BulkCommand) -> int:
        return bulk.to_give_up(row)


class EndedSerializer(serializers.Serializer[bulk.Ended]):
    cancelled = serializers.IntegerField(help_text="Waiting commands that were cancelled.")
    given_up = serializers.IntegerField(
        help_text="Commands sent to devices that are offline now. They count as failed unless a "
        "result arrives later."
    )


class ResultsQuery(StrictSerializer):
    format = serializers.ChoiceField(list(FORMATS), required=False, default="csv")


class BulkCommandFilters(FilterSet):
    tenant = VisibleFilter(Tenant)
    command = CharFilter(max_length=100)
    since = MomentFilter(field_name="created_at", lookup_expr="gte")
    until = MomentFilter(field_name="created_at", lookup_expr="lt")


@extend_schema(tags=["Bulk commands"])
@extend_schema_view(
    list=extend_schema(summary="List bulk commands with their progress"),
    retrieve=extend_schema(summary="Show a bulk command with its progress"),
)
class BulkCommandViewSet(ResourceViewSet[BulkCommand]):
    queryset = BulkCommand.objects.none()
    serializer_class = BulkCommandSerializer
    filterset_class = BulkCommandFilters
    roles = dict.fromkeys(("create", "preview", "cancel", "retry"), Role.OPERATOR)
    # The order in which they were issued.
    ordering_fields = ("id",)
    ordering = "-id"

    def get_serializer_class(self) -> type[BulkSummarySerializer]:
        return BulkSummarySerializer if self.action == "list" else BulkCommandSerializer

    def get_queryset(self) -> Any:
        # The devices that wait are counted where they are, since there may be 100,000.
        waiting = Func(F("waiting"), function="cardinality", output_field=IntegerField())
        rows = super().get_queryset().select_related("created_by", "retry_of")
        return rows.defer("waiting").annotate(unexpanded=waiting)

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        """Count the commands of all rows to be shown in one query."""
        rows = args[0] if kwargs.get("many") else args
        counts = bulk.progress_of(rows)
        for row in rows:
            counts[row.pk][COMMAND_STATES.initial] += row.unexpanded
        kwargs["context"] = {**self.get_serializer_context(), "counts": counts}
        return self.get_serializer_class()(*args, **kwargs)

    @extend_schema(
        summary="Issue a command to many devices",
        request=Wanted,
        parameters=[KEY],
        responses={202: BulkCommandSerializer, 200: BulkCommandSerializer},
    )
    def create(self, request: Request) -> Response:
        """Issue it: 202, or 200 if the Idempotency-Key has been used for it before."""
        _, targets, asked = asked_of(request)
        issued, new = bulk.issue(
            targets,
            asked["command"],
            asked["parameters"],
            by=self.person,
            deadline=asked.get("deadline"),
            idempotency_key=key_of(request),
        )
        return self._issued(issued, new)

    @extend_schema(
        summary="Count the devices that would get it", request=Wanted, responses=BulkPreviewAnswer
    )
    @action(detail=False, methods=["post"])
    def preview(self, request: Request) -> Response:
        """Count the devices that would get it now, and those that would not; nothing is sent."""
        _, targets, asked = asked_of(request)
        shown = bulk.preview(targets, asked["command"])
        return Response(BulkPreviewAnswer({"target": targets.words, "preview": shown}).data)

    @extend_schema(summary="Cancel a bulk command", request=None, responses=EndedSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, uuid: str) -> Response:
        """Cancel its waiting commands, and give up those sent to devices that are offline now."""
        StrictSerializer(data=request.data).is_valid(raise_exception=True)
        return Response(EndedSerializer(bulk.cancel(self.get_object(), by=self.person)).data)

    @extend_schema(
        summary="Retry a bulk command",
        request=None,
        parameters=[KEY],
        responses={202: BulkCommandSerializer, 200: BulkCommandSerializer},
    )
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, uuid: str) -> Response:
        """Issue it again to the devices on which it failed or expired: 202, or 200 if the
        Idempotency-Key has been used for it before."""
        StrictSerializer(data=request.data).is_valid(raise_exception=True)
        row = self.get_object()
        return self._issued(*bulk.retry(row, by=self.person, idempotency_key=key_of(request)))

    @extend_schema(
        summary="Download the results",
        parameters=[ResultsQuery],
        responses={
            (200, kind): OpenApiResponse(OpenApiTypes.STR, "A line for each command.")
            for kind in ("text/csv", "application/x-ndjson")
        },
    )
    @action(detail=True, content_negotiation_class=IgnoreFormat)
    def results(self, request: Request, uuid: str) -> StreamingHttpResponse:
        """Download its commands with their results, as CSV or JSON lines."""
        query = ResultsQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        rows = Command.objects.visible_to(self.person).filter(bulk=self.get_object())
        format = query.validated_data["format"]
        return download(rows, RESULTS, format=format, name="results", at_a_time=RESULTS_AT_A_TIME)

    def query_parameters(self) -> set[str]:
        return {"format"} if self.action == "results" else super().query_parameters()

    def _issued(self, issued: BulkCommand, new: bool) -> Response:
        row = self.get_queryset().get(pk=issued.pk)
        path = reverse("api:bulkcommand-detail", args=[row.uuid])
        return Response(
            self.get_serializer(row).data,
            status=202 if new else 200,
            headers={"Location": self.request.build_absolute_uri(path)},
        )
