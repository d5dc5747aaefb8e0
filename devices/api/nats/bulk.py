"""Commands to many devices."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices.api.serializers import CommandSerializer
from devices.commands import bulk, targets
from devices.commands.bulk import Targets
from devices.commands.rules.states import COMMAND_STATES
from devices.filters.inventory import MOST_TAGS, PREFIX
from devices.models import BulkCommand
from devices.presence.rules import Status
from tenants.api.base.fields import EpochField, SuccessField, TextOrNullField
from tenants.api.base.idempotency import KEY, key_of
from tenants.api.base.permissions import person_of, require
from tenants.api.base.serializers import BoundedListField, StrictSerializer
from tenants.models import Role, User

MAX_LISTED = 10_000


class FilterSerializer(StrictSerializer):
    """The filters of devices; also `field.NAME`, with the value of a custom field."""

    q = serializers.CharField(required=False, max_length=200)
    status = serializers.ChoiceField([each.value for each in Status], required=False)
    tenant = serializers.UUIDField(required=False)
    organisation = serializers.UUIDField(required=False)
    group = serializers.UUIDField(required=False)
    connection_type = serializers.CharField(required=False, max_length=20)
    platform = serializers.CharField(required=False, max_length=100)
    agent_version = serializers.CharField(required=False, max_length=64)
    tag = BoundedListField(
        child=serializers.CharField(max_length=50),
        required=False,
        max_length=MOST_TAGS,
        help_text="Names; a device has all of them.",
    )

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Take any custom field's value as text, as a query string has it."""
        if not isinstance(data, dict):
            return super().to_internal_value(data)
        fields = {name: value for name, value in data.items() if str(name).startswith(PREFIX)}
        for name, value in fields.items():
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise serializers.ValidationError({name[:100]: "This must be text or a number."})
        others = {name: value for name, value in data.items() if name not in fields}
        return super().to_internal_value(others) | {
            name: str(value)[:500] for name, value in fields.items()
        }


class BulkCommandSerializer(CommandSerializer):
    """A command, with exactly one of `group`, `organisation`, `filter` and `devices`."""

    group = serializers.UUIDField(required=False)
    organisation = serializers.UUIDField(required=False)
    filter = FilterSerializer(required=False)
    devices = BoundedListField(
        child=serializers.UUIDField(), required=False, min_length=1, max_length=MAX_LISTED
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        targets = {"group", "organisation", "filter", "devices"}.intersection(attrs)
        if len(targets) != 1:
            raise serializers.ValidationError(
                "Give exactly one of group, organisation, filter, devices."
            )
        return attrs


class BroadcastSerializer(CommandSerializer, StrictSerializer):
    """A command to all devices: a field that would choose some of them is refused."""


class BulkIssuedAnswer(serializers.Serializer[BulkCommand]):
    success = SuccessField()
    bulk_id = serializers.UUIDField(source="uuid")
    status_url = serializers.HyperlinkedIdentityField("nats:bulk-command", lookup_field="uuid")
    total = serializers.IntegerField(help_text="Devices that get the command.")
    left_out = serializers.DictField(
        child=serializers.IntegerField(), help_text="Devices that do not get it, counted by reason."
    )


class BulkPreviewAnswer(serializers.Serializer[Any]):
    target = serializers.CharField()
    total = serializers.IntegerField(
        source="preview.total", help_text="Devices that would get the command."
    )
    by_status = serializers.SerializerMethodField(help_text="online, stale, offline, unknown.")
    left_out = serializers.DictField(
        source="preview.left_out",
        child=serializers.IntegerField(),
        help_text="Devices that would not get it, counted by reason.",
    )

    def get_by_status(self, shown: dict[str, Any]) -> dict[str, int]:
        counts: dict[Status, int] = shown["preview"].by_status
        return {status.lower(): count for status, count in counts.items()}


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
        request=BulkCommandSerializer,
        parameters=[KEY],
        responses={202: BulkIssuedAnswer, 200: BulkIssuedAnswer},
    )
    def post(self, request: Request) -> Response:
        """Issue it: 202, or 200 if the Idempotency-Key has been used for it before."""
        return _issue(request, *_asked(request))


class BroadcastView(APIView):
    @extend_schema(
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
    @extend_schema(request=BulkCommandSerializer, responses=BulkPreviewAnswer)
    def post(self, request: Request) -> Response:
        """Count the devices that would get it now, and those that would not; nothing is sent."""
        _, wanted, data = _asked(request)
        shown = bulk.preview(wanted, data["command"])
        return Response(BulkPreviewAnswer({"target": wanted.words, "preview": shown}).data)


class BulkCommandView(APIView):
    @extend_schema(responses=BulkAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        found = _bulk_for(request, uuid, Role.VIEWER)
        return Response(BulkAnswer(found).data)


class CancelBulkView(APIView):
    @extend_schema(request=None, responses=CancelledAnswer)
    def post(self, request: Request, uuid: UUID) -> Response:
        """Cancel its waiting commands, and give up those sent to devices that are offline now."""
        found = _bulk_for(request, uuid, Role.OPERATOR)
        ended = bulk.cancel(found, by=person_of(request))
        return Response(CancelledAnswer(ended).data)


class RetryBulkView(APIView):
    @extend_schema(
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


def _asked(request: Request) -> tuple[User, Targets, dict[str, Any]]:
    person = person_of(request)
    form = BulkCommandSerializer(data=request.data)
    form.is_valid(raise_exception=True)
    data = form.validated_data
    wanted = _targets(person, data)
    require(request, wanted.tenant.pk, Role.OPERATOR)
    return person, wanted, data


def _targets(person: User, data: dict[str, Any]) -> Targets:
    if "group" in data:
        return targets.of_group(person, data["group"])
    if "organisation" in data:
        return targets.of_organisation(person, data["organisation"])
    if "devices" in data:
        return targets.of_devices(person, data["devices"])
    return targets.of_filter(person, data["filter"])


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
