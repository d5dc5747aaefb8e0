"""Commands to one device."""

from typing import Any
from uuid import UUID

from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices import representations
from devices.api.access import command_for, device_for
from devices.api.serializers import CommandSerializer
from devices.commands import issue as commands
from devices.models import Command
from devices.presence.coverage import current_cutoffs
from tenants.api.base.idempotency import KEY, key_of
from tenants.api.base.permissions import person_of
from tenants.models import Role


class IssuedAnswer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    command_id = serializers.UUIDField()
    status_url = serializers.URLField()


class CommandAnswer(serializers.Serializer[Any]):
    command_id = serializers.UUIDField()
    device_uuid = serializers.UUIDField()
    command = serializers.CharField()
    parameters = serializers.JSONField()
    state = serializers.CharField()
    created_at = serializers.FloatField()
    deadline = serializers.FloatField()
    sent_at = serializers.FloatField(allow_null=True)
    finished_at = serializers.FloatField(allow_null=True)
    result = serializers.JSONField(allow_null=True)
    result_cut_from = serializers.IntegerField(
        allow_null=True, help_text="Size of the result in bytes, if it was cut off; else null."
    )
    error = serializers.CharField(allow_null=True)
    request_id = serializers.CharField(
        allow_null=True, help_text="The `X-Request-ID` of the request that issued it."
    )
    retry_of = serializers.UUIDField(
        allow_null=True, help_text="The command that this one retries."
    )
    bulk_id = serializers.UUIDField(allow_null=True)
    device_offline_since = serializers.FloatField(
        allow_null=True,
        help_text="Since when the device is offline, while the command has not ended; else null.",
    )


class DeviceCommandView(APIView):
    @extend_schema(
        request=CommandSerializer,
        parameters=[KEY],
        responses={202: IssuedAnswer, 200: IssuedAnswer},
    )
    def post(self, request: Request, uuid: UUID) -> Response:
        """Issue it: 202, or 200 if the Idempotency-Key has been used for it before."""
        person = person_of(request)
        device = device_for(request, uuid, role=Role.OPERATOR)
        form = CommandSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        command, new = commands.issue_once(
            key_of(request), device, by=person, **form.validated_data
        )
        return _issued(request, command, new)


class CommandView(APIView):
    @extend_schema(responses=CommandAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        return _command(command_for(request, uuid))


class CancelCommandView(APIView):
    @extend_schema(request=None, responses=CommandAnswer)
    def post(self, request: Request, uuid: UUID) -> Response:
        """Cancel a waiting command. One that was sent cannot be recalled: it is given up, and
        counts as failed unless a result arrives later."""
        person = person_of(request)
        command = command_for(request, uuid, role=Role.OPERATOR)
        commands.cancel(command, by=person)
        return _command(command_for(request, uuid))


class RetryCommandView(APIView):
    @extend_schema(
        request=None,
        parameters=[KEY],
        responses={202: IssuedAnswer, 200: IssuedAnswer},
    )
    def post(self, request: Request, uuid: UUID) -> Response:
        """Issue the same command again, once this one has ended: 202, or 200 if the Idempotency-Key
        has been used for it before."""
        person = person_of(request)
        command = command_for(request, uuid, role=Role.OPERATOR)
        return _issued(request, *commands.retry_once(key_of(request), command, by=person))


def _issued(request: Request, command: Command, new: bool) -> Response:
    path = reverse("nats:command", args=[command.uuid])
    answer = {
        "success": True,
        "command_id": str(command.uuid),
        "status_url": request.build_absolute_uri(path),
    }
    return Response(answer, status=202 if new else 200)


def _command(command: Command) -> Response:
    offline_since = command.device.offline_since(current_cutoffs()) if command.is_open else None
    return Response(
        representations.command(command)
        | {
            "retry_of": str(command.retry_of.uuid) if command.retry_of else None,
            "bulk_id": str(command.bulk.uuid) if command.bulk else None,
            "device_offline_since": representations.epoch(offline_since),
        }
    )
