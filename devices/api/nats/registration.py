"""How a computer becomes a device, moves to NATS, and learns how to reach the broker."""

from http import HTTPStatus
from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices.api.nats.access import device_for, own_device
from devices.api.nats.broker import BrokerAccessAnswer, CredentialsAnswer
from devices.api.serializers import JsonObjectField
from devices.enrolment import actions as enrolment
from devices.enrolment.registrations import register_once
from devices.errors import RegistrationRefused
from devices.models import Device
from natsbridge.identity.nkeys import is_public_user_key
from tenants.api.base.authentication import count_failure
from tenants.api.base.fields import SuccessField
from tenants.api.base.idempotency import KEY, key_of
from tenants.api.base.schema import PROBLEM, ProblemDetails
from tenants.errors import EnrollmentRefused
from tenants.models import Role, User
from tenants.names import validate_name
from tenants.throttle import refused_tokens

NO_STORE = {"Cache-Control": "no-store"}
# Django would answer HEAD as GET, which issues secrets here: they would reach nobody.
WITHOUT_HEAD = ["get", "post", "options"]


class NkeyField(serializers.CharField):
    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=56, **options)

    def to_internal_value(self, data: Any) -> str:
        value = super().to_internal_value(data)
        if not is_public_user_key(value):
            raise serializers.ValidationError("Not the public key of an NKey user (U…).")
        return value


class RegistrationSerializer(serializers.Serializer[Any]):
    groupuuid = serializers.UUIDField()
    devicename = serializers.CharField(max_length=255, validators=[validate_name])
    enrollment_key = serializers.CharField(max_length=200)
    nkey_public = NkeyField(required=False)
    hardwareinfo = JsonObjectField(required=False, default=dict)
    timestamp = serializers.IntegerField(required=False, min_value=0, max_value=2**53)
    signature = serializers.CharField(required=False, max_length=200)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("signature" in attrs) != ("timestamp" in attrs) and "signature" in attrs:
            raise serializers.ValidationError(
                {"timestamp": "A signature needs the timestamp it was made with."}
            )
        if "signature" in attrs and "nkey_public" not in attrs:
            raise serializers.ValidationError(
                {"nkey_public": "A signature needs the public key that it is checked with."}
            )
        return attrs


class UpgradeSerializer(serializers.Serializer[Any]):
    nkey_public = NkeyField(
        required=False, help_text="Without it, the device gets a username and a password."
    )


class RegistrationAnswer(serializers.Serializer[Any]):
    success = SuccessField()
    deviceuuid = serializers.UUIDField(source="device.pk")
    tenant_uuid = serializers.UUIDField(source="device.tenant_id")
    device_token = serializers.CharField()
    nats_credentials = CredentialsAnswer(source="issued")


class UpgradeAnswer(serializers.Serializer[Any]):
    success = SuccessField()
    device_uuid = serializers.UUIDField(source="device.pk")
    tenant_uuid = serializers.UUIDField(source="device.tenant_id")
    device_token = serializers.CharField(
        required=False, help_text="Only if a person asked; earlier tokens become invalid."
    )
    nats_credentials = CredentialsAnswer(source="issued")


class DeviceTenantAnswer(BrokerAccessAnswer):
    success = SuccessField()
    device_uuid = serializers.UUIDField(source="pk")
    tenant_uuid = serializers.UUIDField(source="tenant_id")
    group_uuid = serializers.UUIDField(source="group_id")
    org_uuid = serializers.UUIDField(source="group.organisation_id")
    nats_server = serializers.SerializerMethodField(help_text="The same as `nats_url`.")

    def get_nats_server(self, device: Device) -> str:
        return self.get_nats_url(device)


class DeviceCredentialsAnswer(serializers.Serializer[Any]):
    success = SuccessField()
    device_uuid = serializers.UUIDField(source="credential.device_uuid")
    tenant_uuid = serializers.UUIDField(source="credential.tenant_id")
    credentials = CredentialsAnswer(source="*")


class RegisterView(APIView):
    """Register a computer as a device, with an enrolment key as the only credential.

    With `nkey_public` the device logs in to the broker with a JWT, without it with a username and
    a password. A key pair is registered once: sent again with a signature, it is the same device
    and gets a new token. A signature is valid once, so each needs a later timestamp. Without a
    key pair each request creates a new device and is one use of the enrolment key.

    An `Idempotency-Key` makes the request safe to send again: for 24 hours the answer is the same
    device with fresh secrets (200), and those of the answer before are void. Once one of them has
    been used, it is 409.
    """

    authentication_classes: list[type] = []
    permission_classes: list[type] = []
    # Of the enrolment key and the signature.
    described_problems = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)

    @extend_schema(
        summary="Register a computer as a device",
        request=RegistrationSerializer,
        parameters=[KEY],
        responses={201: RegistrationAnswer, 200: RegistrationAnswer},
    )
    def post(self, request: Request) -> Response:
        form = RegistrationSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        data = form.validated_data
        proof = None
        if "signature" in data:
            proof = enrolment.Proof(data["timestamp"], data["signature"])
        try:
            registered = register_once(
                key_of(request),
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
        registration = registered.registration
        answer = {
            "device": registration.device,
            "device_token": registration.device_token,
            "issued": registered.issued,
        }
        status = 201 if registration.created else 200
        return Response(RegistrationAnswer(answer).data, status=status, headers=NO_STORE)


class UpgradeView(APIView):
    """Move a device that was registered by other means (`connection_type` node-red) to NATS.

    For an admin of its tenant, who gets a new device token for its agent, and for the device
    itself. It may be repeated until the agent has logged in, and invalidates what it issued before.
    """

    http_method_names = WITHOUT_HEAD

    @extend_schema(
        summary="Move a device to NATS",
        parameters=[UpgradeSerializer],
        responses={200: UpgradeAnswer, (409, PROBLEM): OpenApiResponse(ProblemDetails, "Conflict")},
    )
    def get(self, request: Request, uuid: UUID) -> Response:
        """Do as POST does, with the public key among the query parameters."""
        return self._upgrade(request, uuid, request.query_params)

    @extend_schema(
        summary="Move a device to NATS", request=UpgradeSerializer, responses=UpgradeAnswer
    )
    def post(self, request: Request, uuid: UUID) -> Response:
        return self._upgrade(request, uuid, request.data)

    def _upgrade(self, request: Request, uuid: UUID, data: Any) -> Response:
        device = device_for(request, uuid, role=Role.ADMIN)
        form = UpgradeSerializer(data=data)
        form.is_valid(raise_exception=True)
        person = request.user if isinstance(request.user, User) else None
        upgraded = enrolment.upgrade(
            device, nkey_public=form.validated_data.get("nkey_public"), by=person
        )
        answer: dict[str, Any] = {"device": device, "issued": upgraded.issued}
        if upgraded.device_token:
            answer["device_token"] = upgraded.device_token
        return Response(UpgradeAnswer(answer).data, headers=NO_STORE)


class DeviceTenantView(APIView):
    """Also at `/api/device/{uuid}/tenant`, for agents that are older than `/api/nats/`."""

    @extend_schema(
        summary="Show a device's tenant and the broker's address", responses=DeviceTenantAnswer
    )
    def get(self, request: Request, uuid: UUID) -> Response:
        return Response(DeviceTenantAnswer(device_for(request, uuid)).data)


class DeviceCredentialsView(APIView):
    http_method_names = WITHOUT_HEAD

    @extend_schema(summary="Issue the device a new credential", responses=DeviceCredentialsAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        issued = enrolment.issue_credential(own_device(request, uuid))
        return Response(DeviceCredentialsAnswer(issued).data, headers=NO_STORE)
