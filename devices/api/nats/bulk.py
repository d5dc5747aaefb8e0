"""Commands to many devices."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices.api.serializers import NewCommandSerializer
from devices.api.targets import BulkCommandSerializer, BulkPreviewAnswer, asked_of
from devices.commands import bulk, targets
from devices.commands.bulk import Targets
from devices.commands.rules.states import COMMAND_STATES
from devices.models import BulkCommand
from tenants.api.base.fields import EpochField, SuccessField, TextOrNullField
from tenants.api.base.idempotency import KEY, key_of
from tenants.api.base.permissions import person_of, require
from tenants.api.base.serializers import StrictSerializer
from tenants.models import Role, User


class BroadcastSerializer(NewCommandSerializer, StrictSerializer):
    """A command to all devices: a field that would choose some of them is refused."""


class BulkIssuedAnswer(serializers.Serializer[BulkCommand]):
    success = SuccessField()
    bulk_id = serializers.UUIDField(source="uuid")
    status_url = serializers.HyperlinkedIdentityField("nats:bulk-command", lookup_field="uuid")
    total = serializers.IntegerField(help_text="Devices that get the command.")
    left_out = serializers.DictField(
        child=serializers.IntegerField(), help_text="Devices that do not get it, counted by reason."
    )


class BulkAnswer(serializers.Serializer[Any]):
    bulk_id = serializers.UUIDField(source="bulk.uuid")
    tenant_uuid = serializers.UUIDField(source="bulk.tenant_id")
    command = serializers.CharField(source="bulk.command")
    parameters = serializers.JSONField(source="bulk.parameters")
    target = serializers.CharField(source="bulk.target")
    created_by = serializers.CharField(source="bulk.created_by.username", allow_null=True)
    created_at = EpochField(source="bulk.created_at")
    deadline = EpochField(source="bulk.deadline")
    cancelled_at = EpochField(source="bulk.cancelled_at", allow_null=True)
    retry_of = serializers.UUIDField(source="bulk.retry_of.uuid", allow_null=True)
    request_id = TextOrNullField(
        source="bulk.request_id", help_text="The `X-Request-ID` of the request that issued it."
    )
    total = serializers.IntegerField()
    left_out = serializers.DictField(source="bulk.left_out", child=serializers.IntegerField())
    counts = serializers.DictField(
        child=serializers.IntegerField(), help_text="Its commands, counted by state."
    )
    open = serializers.IntegerField(help_text="Commands that have not ended yet.")
    to_give_up = serializers.IntegerField(
        help_text="Commands sent to devices that are offline now; cancelling gives them up."
    )

    def to_representation(self, row: BulkCommand) -> dict[str, Any]:
        counts = bulk.progress(row)
        shown = {
            "bulk": row,
            "total": sum(counts.values()),
            "counts": counts,
            "open": sum(counts[state] for state in COMMAND_STATES.open),
            "to_give_up": bulk.to_give_up(row),
        }
        return super().to_representation(shown)


class CancelledAnswer(serializers.Serializer[Any]):
    success = SuccessField()
    cancelled = serializers.IntegerField(help_text="Waiting commands that were cancelled.")
    given_up = serializers.IntegerField(
        help_text="Commands sent to devices that are offline now. They count as failed unless a "
        "result arrives later."
    )


class BulkCommandsView(APIView):
    @extend_schema(
        summary="Issue a command to many devices",
        request=BulkCommandSerializer,
        parameters=[KEY],
        responses={202: BulkIssuedAnswer, 200: BulkIssuedAnswer},
    )
    def post(self, request: Request) -> Response:
        """Issue it: 202, or 200 if the Idempotency-Key has been used for it before."""
        return _issue(request, *asked_of(request))


class BroadcastView(APIView):
    @extend_schema(
        summary="Issue a command to all devices of a tenant",
        request=BroadcastSerializer,
        parameters=[KEY],
        responses={202: BulkIssuedAnswer, 200: BulkIssuedAnswer},
    )
    def post(self, request: Request, uuid: UUID) -> Response:
        """Issue a bulk command to all devices of the tenant: 202, or 200 if the Idempotency-Key
        has been used for it before."""
        person = person_of(request)
        wanted = targets.of_tenant(person, uuid)
        require(request, uuid, Role.OPERATOR)
        form = BroadcastSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return _issue(request, person, wanted, form.validated_data)


class BulkPreviewView(APIView):
    @extend_schema(
        summary="Count the devices that would get a command",
        request=BulkCommandSerializer,
        responses=BulkPreviewAnswer,
    )
    def post(self, request: Request) -> Response:
        """Count the devices that would get it now, and those that would not; nothing is sent."""
        _, wanted, data = asked_of(request)
        shown = bulk.preview(wanted, data["command"])
        return Response(BulkPreviewAnswer({"target": wanted.words, "preview": shown}).data)


class BulkCommandView(APIView):
    @extend_schema(summary="Show the progress of a bulk command", responses=BulkAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        found = _bulk_for(request, uuid, Role.VIEWER)
        return Response(BulkAnswer(found).data)


class CancelBulkView(APIView):
    @extend_schema(summary="Cancel a bulk command", request=None, responses=CancelledAnswer)
    def post(self, request: Request, uuid: UUID) -> Response:
        """Cancel its waiting commands, and give up those sent to devices that are offline now."""
        found = _bulk_for(request, uuid, Role.OPERATOR)
        ended = bulk.cancel(found, by=person_of(request))
        return Response(CancelledAnswer(ended).data)


class RetryBulkView(APIView):
    @extend_schema(
        summary="Retry a bulk command",
        request=None,
        parameters=[KEY],
        responses={202: BulkIssuedAnswer, 200: BulkIssuedAnswer},
    )
    def post(self, request: Request, uuid: UUID) -> Response:
        """Issue it again to the devices on which it failed or expired: 202, or 200 if the
        Idempotency-Key has been used for it before."""
        found = _bulk_for(request, uuid, Role.OPERATOR)
        person = person_of(request)
        again, new = bulk.retry(found, by=person, idempotency_key=key_of(request))
        return _issued(request, again, status=202 if new else 200)


def _bulk_for(request: Request, uuid: UUID, role: Role) -> BulkCommand:
    person = person_of(request)
    visible = BulkCommand.objects.visible_to(person).select_related("created_by", "retry_of")
    found = visible.filter(uuid=uuid).first()
    if found is None:
        raise NotFound(f"There is no bulk command {uuid}.")
    require(request, found.tenant_id, role)
    return found


def _issue(request: Request, person: User, wanted: Targets, data: dict[str, Any]) -> Response:
    issued, new = bulk.issue(
        wanted,
        data["command"],
        data["parameters"],
        by=person,
        deadline=data.get("deadline"),
        idempotency_key=key_of(request),
    )
    return _issued(request, issued, status=202 if new else 200)


def _issued(request: Request, issued: BulkCommand, status: int = 202) -> Response:
    answer = BulkIssuedAnswer(issued, context={"request": request})
    return Response(answer.data, status=status)
