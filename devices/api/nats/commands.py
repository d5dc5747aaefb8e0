"""Commands to one device."""

from collections.abc import Collection
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices.api.nats.access import command_for, device_for
from devices.api.serializers import LARGE_FIELDS, NewCommandSerializer
from devices.commands import issue as commands
from devices.models import Command, CommandState
from devices.presence.coverage import current_cutoffs
from tenants.api.base.etags import answer_unless_known
from tenants.api.base.fields import EpochField, SuccessField, TextOrNullField
from tenants.api.base.idempotency import KEY, key_of
from tenants.api.base.permissions import person_of
from tenants.models import Role


class IssuedAnswer(serializers.Serializer[Command]):
    success = SuccessField()
    command_id = serializers.UUIDField(source="uuid")
    status_url = serializers.HyperlinkedIdentityField("nats:command", lookup_field="uuid")


class CommandAnswer(serializers.Serializer[Command]):
    command_id = serializers.UUIDField(source="uuid")
    device_uuid = serializers.UUIDField(source="device_id")
    command = serializers.CharField()
    parameters = serializers.JSONField()
    state = serializers.ChoiceField(CommandState.choices)
    created_at = EpochField()
    deadline = EpochField()
    sent_at = EpochField(allow_null=True)
    finished_at = EpochField(allow_null=True)
    result = serializers.JSONField(allow_null=True)
    result_cut_from = serializers.IntegerField(
        allow_null=True, help_text="Size of the result in bytes, if it was cut off; else null."
    )
    error = TextOrNullField()
    request_id = TextOrNullField(help_text="The `X-Request-ID` of the request that issued it.")
    retry_of = serializers.UUIDField(
        source="retry_of.uuid", allow_null=True, help_text="The command that this one retries."
    )
    bulk_id = serializers.UUIDField(source="bulk.uuid", allow_null=True)
    device_offline_since = serializers.SerializerMethodField(
        help_text="Since when the device is offline, while the command has not ended; else null."
    )

    def get_device_offline_since(self, row: Command) -> float | None:
        since = row.device.offline_since(current_cutoffs()) if row.is_open else None
        return None if since is None else EpochField().to_representation(since)


class DeviceCommandView(APIView):
    @extend_schema(
        summary="Issue a command to a device",
        request=NewCommandSerializer,
        parameters=[KEY],
        responses={202: IssuedAnswer, 200: IssuedAnswer},
    )
    def post(self, request: Request, uuid: UUID) -> Response:
        """Issue it: 202, or 200 if the Idempotency-Key has been used for it before."""
        person = person_of(request)
        device = device_for(request, uuid, role=Role.OPERATOR)
        form = NewCommandSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        command, new = commands.issue_once(
            key_of(request), device, by=person, **form.validated_data
        )
        return issued_response(request, command, new)


class CommandView(APIView):
    @extend_schema(summary="Show a command with its result", responses=CommandAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        """Show its state and its result. Polling with `If-None-Match` is cheaper."""

        def find(deferred: Collection[str]) -> Command:
            return command_for(request, uuid, deferred=deferred)

        return answer_unless_known(request, CommandAnswer, find, LARGE_FIELDS)


class CancelCommandView(APIView):
    @extend_schema(summary="Cancel or give up a command", request=None, responses=CommandAnswer)
    def post(self, request: Request, uuid: UUID) -> Response:
        """Cancel a waiting command. One that was sent cannot be recalled: it is given up, and
        counts as failed unless a result arrives later."""
        person = person_of(request)
        command = command_for(request, uuid, role=Role.OPERATOR)
        commands.cancel(command, by=person)
        return Response(CommandAnswer(command_for(request, uuid)).data)


class RetryCommandView(APIView):
    @extend_schema(
        summary="Retry a command",
        request=None,
        parameters=[KEY],
        responses={202: IssuedAnswer, 200: IssuedAnswer},
    )
    def post(self, request: Request, uuid: UUID) -> Response:
        """Issue the same command again, once this one has ended: 202, or 200 if the Idempotency-Key
        has been used for it before."""
        person = person_of(request)
        command = command_for(request, uuid, role=Role.OPERATOR)
        return issued_response(request, *commands.retry_once(key_of(request), command, by=person))


def issued_response(request: Request, command: Command, new: bool) -> Response:
    answer = IssuedAnswer(command, context={"request": request})
    return Response(answer.data, status=202 if new else 200)
