"""A heartbeat over HTTP, for devices that do not reach the broker."""

from collections.abc import Mapping
from typing import IO, Any, cast
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices.api.nats.access import own_device
from devices.presence.http_heartbeats import record_http_heartbeat
from natsbridge.protocol import envelope
from natsbridge.protocol.kinds import Heartbeat
from tenants.api.base.fields import EpochField, SuccessField


class BytesParser(BaseParser):
    """Leave the JSON as it came: a heartbeat is decoded as one over NATS is."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        return stream.read()


class HeartbeatSerializer(serializers.Serializer[Any]):
    """The body of a heartbeat, every field optional; others are ignored.

    It may be wrapped, as over NATS: `{tenant_uuid, device_uuid, message_type, payload}`.
    """

    tenant_uuid = serializers.UUIDField(required=False, help_text="The device's own, else 403.")
    device_uuid = serializers.UUIDField(required=False, help_text="The device's own, else 403.")
    agent_version = serializers.CharField(required=False, allow_null=True, max_length=64)
    session_id = serializers.CharField(required=False, allow_null=True, max_length=128)
    timestamp = serializers.FloatField(
        required=False, allow_null=True, help_text="By the device's clock, in epoch seconds."
    )
    capabilities = serializers.JSONField(required=False, allow_null=True)
    system_info = serializers.JSONField(required=False, allow_null=True)
    status = serializers.JSONField(required=False, allow_null=True)


class HeartbeatAnswer(serializers.Serializer[Any]):
    success = SuccessField()
    message = serializers.CharField()
    device_uuid = serializers.UUIDField()
    timestamp = EpochField(help_text="When it came, by the server's clock.")


class HeartbeatView(APIView):
    parser_classes = [BytesParser]

    @extend_schema(
        summary="Send a heartbeat over HTTP", request=HeartbeatSerializer, responses=HeartbeatAnswer
    )
    def post(self, request: Request, uuid: UUID) -> Response:
        """Record a sign of life of the device, for the device alone.

        Its status shows it as `last_heartbeat`. Whether the device is online, the broker says: a
        heartbeat over HTTP changes neither presence nor connection type, and no command is sent.
        """
        device = own_device(request, uuid)
        # Without a body nothing is parsed.
        data = request.data if isinstance(request.data, bytes) else b""
        body = envelope.decode(
            "heartbeat", data or b"{}", tenant=device.tenant_id, device=device.pk
        )
        recorded_at = record_http_heartbeat(device, cast(Heartbeat, body))
        answer = {
            "message": "Heartbeat recorded.",
            "device_uuid": device.pk,
            "timestamp": recorded_at,
        }
        return Response(HeartbeatAnswer(answer).data)
