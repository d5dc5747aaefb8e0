"""A device's access to the broker: revoked, reinstated, rotated."""

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices.api.nats.access import administered_device
from devices.api.nats.devices import DeviceAnswer, DeviceStatusAnswer, status_response
from devices.enrolment import credentials
from devices.models import Device
from tenants.api.base.serializers import OverlapSerializer, ReasonSerializer, StrictSerializer
from tenants.api.nats.credentials import CredentialAnswer

CREDENTIALS_SHOWN = 200


class DeviceCredentialHistoryAnswer(DeviceAnswer):
    credentials = CredentialAnswer(many=True)


class DeviceCredentialHistoryView(APIView):
    @extend_schema(summary="List a device's credentials", responses=DeviceCredentialHistoryAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        """List the device's credentials, newest first, without secrets; of those that ended long
        ago only the newest few are kept. For admins of its tenant."""
        _, device = administered_device(request, uuid)
        rows = device.tenant.credentials.filter(device_uuid=device.pk)
        found = rows.select_related("issued_by")[:CREDENTIALS_SHOWN]
        answer = {"device_uuid": uuid, "credentials": found}
        return Response(DeviceCredentialHistoryAnswer(answer).data)


class RevokeDeviceView(APIView):
    @extend_schema(
        summary="Revoke a device", request=ReasonSerializer, responses=DeviceStatusAnswer
    )
    def post(self, request: Request, uuid: UUID) -> Response:
        """End its connection within a second, and invalidate its credentials and its token."""
        person, device = administered_device(request, uuid)
        form = ReasonSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        credentials.revoke_device(device, by=person, reason=form.validated_data["reason"])
        return _status(device)


class ReinstateDeviceView(APIView):
    @extend_schema(summary="Reinstate a revoked device", request=None, responses=DeviceStatusAnswer)
    def post(self, request: Request, uuid: UUID) -> Response:
        """Make its token valid again, with which it gets a new credential."""
        person, device = administered_device(request, uuid)
        StrictSerializer(data=request.data).is_valid(raise_exception=True)
        credentials.reinstate_device(device, by=person)
        return _status(device)


class RotateDeviceView(APIView):
    @extend_schema(
        summary="Ask a device to renew its credential",
        request=OverlapSerializer,
        responses={202: DeviceAnswer},
    )
    def post(self, request: Request, uuid: UUID) -> Response:
        """Tell the agent to fetch a new credential; the old one works until the overlap ends."""
        person, device = administered_device(request, uuid)
        form = OverlapSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        credentials.rotate_device(device, by=person, overlap=form.validated_data["overlap"])
        return Response(DeviceAnswer({"device_uuid": uuid}).data, status=202)


def _status(device: Device) -> Response:
    device.refresh_from_db()
    return status_response(device)
