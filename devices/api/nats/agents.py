"""The agent of a device: its configuration, and restarting it."""

from typing import Any
from uuid import UUID

from django.urls import reverse
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices.api.nats.access import device_for
from devices.api.nats.broker import SubjectsAnswer
from devices.api.nats.commands import IssuedAnswer, issued_response
from devices.commands import issue as commands
from devices.models import Device
from natsbridge.identity.usernames import device_username
from natsbridge.protocol import subjects
from tenants.api.base.fields import SuccessField
from tenants.api.base.idempotency import KEY, key_of
from tenants.api.base.permissions import person_of
from tenants.api.base.serializers import StrictSerializer
from tenants.api.nats.broker import broker_urls
from tenants.models import Role

RESTART = "restart"


class NatsConfigAnswer(serializers.Serializer[Device]):
    server_url = serializers.SerializerMethodField(help_text="The first of `servers`.")
    servers = serializers.SerializerMethodField(
        help_text="All addresses of the broker, to try in turn."
    )
    username = serializers.SerializerMethodField(
        help_text="For a login with a password; a JWT names the device itself."
    )
    inbox_prefix = serializers.SerializerMethodField()
    subjects = serializers.SerializerMethodField()

    def get_server_url(self, _: Device) -> str:
        return broker_urls()[0]

    def get_servers(self, _: Device) -> list[str]:
        return broker_urls()

    def get_username(self, device: Device) -> str:
        return device_username(device.pk)

    def get_inbox_prefix(self, device: Device) -> str:
        return subjects.device_inbox(device.pk)

    @extend_schema_field(SubjectsAnswer)
    def get_subjects(self, device: Device) -> Any:
        return SubjectsAnswer(subjects.device_subjects(device.tenant_id, device.pk)).data


class HttpEndpointsAnswer(serializers.Serializer[Device]):
    heartbeat = serializers.SerializerMethodField()
    status = serializers.SerializerMethodField()

    def get_heartbeat(self, device: Device) -> str:
        return self._address("nats:device-heartbeat", device)

    def get_status(self, device: Device) -> str:
        return self._address("nats:device-status", device)

    def _address(self, name: str, device: Device) -> str:
        address: str = self.context["request"].build_absolute_uri(reverse(name, args=[device.pk]))
        return address


class ConfigAnswer(serializers.Serializer[Device]):
    device_uuid = serializers.UUIDField(source="pk")
    tenant_uuid = serializers.UUIDField(source="tenant_id")
    device_name = serializers.CharField(source="name")
    group_uuid = serializers.UUIDField(source="group_id")
    org_uuid = serializers.UUIDField(source="group.organisation_id")
    nats_config = NatsConfigAnswer(source="*")
    flask_endpoints = HttpEndpointsAnswer(
        source="*", help_text="Where an agent reports over HTTP; named for older agents."
    )


class AgentConfigAnswer(serializers.Serializer[Device]):
    success = SuccessField()
    config = ConfigAnswer(source="*")


class AgentConfigView(APIView):
    @extend_schema(summary="Show an agent's configuration", responses=AgentConfigAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        """Return what an agent needs to know, without a secret: for the device and for viewers."""
        device = device_for(request, uuid)
        return Response(AgentConfigAnswer(device, context={"request": request}).data)


class RestartAgentView(APIView):
    @extend_schema(
        summary="Restart an agent",
        request=StrictSerializer,
        parameters=[KEY],
        responses={202: IssuedAnswer, 200: IssuedAnswer},
    )
    def post(self, request: Request, uuid: UUID) -> Response:
        """Tell the agent to restart, by the command `restart`: 202, or 200 if the Idempotency-Key
        has been used for it before."""
        person = person_of(request)
        device = device_for(request, uuid, role=Role.OPERATOR)
        StrictSerializer(data=request.data).is_valid(raise_exception=True)
        command, new = commands.issue_once(key_of(request), device, RESTART, {}, by=person)
        return issued_response(request, command, new)
