"""The endpoints under /api/nats/: thin, as the work is the actions'."""

from typing import Any
from uuid import UUID

from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices import health, representations
from devices.api import access, answers
from devices.api.serializers import (
    CommandSerializer,
    RecentMetricsSerializer,
    RegistrationSerializer,
    UpgradeSerializer,
)
from devices.commands import issue as commands
from devices.enrolment import actions as enrolment
from devices.errors import RegistrationRefused
from devices.models import Command, Device
from devices.presence.coverage import current_cutoffs
from devices.telemetry import ring_buffers
from tenants.api.access import person_of
from tenants.api.authentication import count_failure
from tenants.api.idempotency import KEY, key_of
from tenants.credentials.issue import Issued
from tenants.errors import EnrollmentRefused
from tenants.models import Credential, Role, User
from tenants.throttle import refused_tokens

NO_STORE = {"Cache-Control": "no-store"}


class RegisterView(APIView):
    """A computer becomes a device; the enrolment key in the body is its only credential.

    With `nkey_public` it logs in to the broker by a JWT; without, by a username and a password.
    A key pair is registered once: sent again, signed, it is the same device with a fresh token.
    A signature is good once, so each needs a later timestamp than the one before.
    Without a key pair nothing could prove that, so each time is a new device and a use of the key.
    """

    authentication_classes: list[type] = []
    permission_classes: list[type] = []

    @extend_schema(
        request=RegistrationSerializer,
        responses={201: answers.RegistrationAnswer, 200: answers.RegistrationAnswer},
    )
    def post(self, request: Request) -> Response:
        form = RegistrationSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        data = form.validated_data
        proof = None
        if "signature" in data:
            proof = enrolment.Proof(data["timestamp"], data["signature"])
        try:
            registration = enrolment.register(
                group=data["groupuuid"],
                name=data["devicename"],
                enrollment_key=data["enrollment_key"],
                nkey_public=data.get("nkey_public"),
                hardware_info=data["hardwareinfo"],
                proof=proof,
            )
        except (EnrollmentRefused, RegistrationRefused):
            group = refused_tokens.group_named(data["groupuuid"])
            count_failure(request, refused_tokens.ENROLMENT_KEY, group)
            raise
        device = registration.device
        answer = {
            "success": True,
            "deviceuuid": str(device.pk),
            "tenant_uuid": str(device.tenant_id),
            "device_token": registration.device_token,
            "nats_credentials": _credentials(device),
        }
        status = 201 if registration.created else 200
        return Response(answer, status=status, headers=NO_STORE)


class UpgradeView(APIView):
    """A device that was registered by other means (`connection_type` node-red) moves to NATS.

    For an admin of its tenant, who gets a fresh device token for its agent, and for the device
    itself. It may be repeated until its agent has logged in; what was issued before is then void.
    """

    @extend_schema(request=UpgradeSerializer, responses=answers.UpgradeAnswer)
    def post(self, request: Request, uuid: UUID) -> Response:
        device = access.device_for(request, uuid, role=Role.ADMIN)
        form = UpgradeSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        person = request.user if isinstance(request.user, User) else None
        upgraded = enrolment.upgrade(
            device, nkey_public=form.validated_data.get("nkey_public"), by=person
        )
        answer = {
            "success": True,
            "device_uuid": str(uuid),
            "tenant_uuid": str(device.tenant_id),
            **({"device_token": upgraded.device_token} if upgraded.device_token else {}),
            "nats_credentials": _shown(device, upgraded.issued),
        }
        return Response(answer, headers=NO_STORE)


class DeviceTenantView(APIView):
    """Also at `/api/device/{uuid}/tenant`, where agents look that are older than `/api/nats/`."""

    @extend_schema(responses=answers.DeviceTenantAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        device = access.device_for(request, uuid)
        broker = representations.broker_access(device)
        answer = {
            "success": True,
            "device_uuid": str(device.pk),
            "tenant_uuid": str(device.tenant_id),
            "group_uuid": str(device.group_id),
            "org_uuid": str(device.group.organisation_id),
            "nats_server": broker["nats_url"],
        }
        return Response(answer | broker)


class DeviceCredentialsView(APIView):
    @extend_schema(responses=answers.DeviceCredentialsAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        device = access.own_device(request, uuid)
        answer = {
            "success": True,
            "device_uuid": str(device.pk),
            "tenant_uuid": str(device.tenant_id),
            "credentials": _credentials(device),
        }
        return Response(answer, headers=NO_STORE)


class DeviceCommandView(APIView):
    @extend_schema(
        request=CommandSerializer,
        parameters=[KEY],
        responses={202: answers.IssuedAnswer, 200: answers.IssuedAnswer},
    )
    def post(self, request: Request, uuid: UUID) -> Response:
        """202 for a new one, 200 for one that its Idempotency-Key has brought before."""
        person = person_of(request)
        device = access.device_for(request, uuid, role=Role.OPERATOR)
        form = CommandSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        command, new = commands.issue_once(
            key_of(request), device, by=person, **form.validated_data
        )
        return _issued(request, command, new)


class CommandView(APIView):
    @extend_schema(responses=answers.CommandAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        return _command(access.command_for(request, uuid))


class CancelCommandView(APIView):
    @extend_schema(request=None, responses=answers.CommandAnswer)
    def post(self, request: Request, uuid: UUID) -> Response:
        """While it waits it is cancelled. What was sent cannot be called back: it is given up,
        and a result that comes late corrects that."""
        person = person_of(request)
        command = access.command_for(request, uuid, role=Role.OPERATOR)
        commands.cancel(command, by=person)
        return _command(access.command_for(request, uuid))


class RetryCommandView(APIView):
    @extend_schema(
        request=None,
        parameters=[KEY],
        responses={202: answers.IssuedAnswer, 200: answers.IssuedAnswer},
    )
    def post(self, request: Request, uuid: UUID) -> Response:
        """A new command of the same content, once this one has ended; 200 for one that its
        Idempotency-Key has brought before."""
        person = person_of(request)
        command = access.command_for(request, uuid, role=Role.OPERATOR)
        return _issued(request, *commands.retry_once(key_of(request), command, by=person))


class DeviceStatusView(APIView):
    @extend_schema(responses=answers.DeviceStatusAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        device = access.device_for(request, uuid)
        return Response(representations.status(device, current_cutoffs()))


class RecentMetricsView(APIView):
    @extend_schema(parameters=[RecentMetricsSerializer], responses=answers.RecentMetricsAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        device = access.device_for(request, uuid)
        form = RecentMetricsSerializer(data=request.query_params)
        form.is_valid(raise_exception=True)
        wanted = form.validated_data.get("metric")
        names = [wanted] if wanted else ring_buffers.LIVE_METRICS
        points = ring_buffers.recent(device.pk, names, form.validated_data.get("limit"))
        if wanted:
            points.setdefault(wanted, [])
        return Response({"device_uuid": str(device.pk), "metrics": points})


class HealthView(APIView):
    """For load balancers and people alike, without a login; it names no address and no error."""

    authentication_classes: list[type] = []
    permission_classes: list[type] = []

    @extend_schema(responses={200: answers.HealthAnswer, 503: answers.HealthAnswer}, auth=[])
    def get(self, request: Request) -> Response:
        components = health.components()
        healthy = all(state == "ok" for state in components.values())
        body: dict[str, Any] = {
            "status": "healthy" if healthy else "unhealthy",
            "components": components,
        }
        return Response(body, status=200 if healthy else 503)


class NoSuchEndpointView(APIView):
    """Anything else below the API's root, so that a typing error gets JSON like all the rest."""

    authentication_classes: list[type] = []
    permission_classes: list[type] = []
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise NotFound("There is no such endpoint; see /api/docs/.")


def _issued(request: Request, command: Command, new: bool) -> Response:
    path = reverse("api-command", args=[command.uuid])
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


def _credentials(device: Device) -> dict[str, Any]:
    return _shown(device, enrolment.issue_credential(device))


def _shown(device: Device, issued: Issued) -> dict[str, Any]:
    """As agents know it; a JWT goes with the agent's own key, and names its user itself."""
    secret = {"jwt": issued.secret}
    if issued.credential.kind == Credential.Kind.PASSWORD:
        secret = {"username": issued.username, "password": issued.secret}
    return secret | representations.broker_access(device)
