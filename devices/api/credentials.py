"""A device's right to the broker: taken away, given back, renewed; and the device's end."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices import representations
from devices.api import access, answers
from devices.enrolment import credentials
from devices.models import Device
from devices.presence.coverage import current_cutoffs
from tenants.api.access import person_of
from tenants.api.credentials import credential_representation
from tenants.api.serializers import OverlapSerializer, ReasonSerializer, StrictSerializer
from tenants.models import Role, User

CREDENTIALS_SHOWN = 200


class DeviceView(APIView):
    @extend_schema(responses={200: answers.DeviceAnswer})
    def delete(self, request: Request, uuid: UUID) -> Response:
        """The device with all that is known of it; its credentials and its token are void."""
        person, device = _administered(request, uuid)
        StrictSerializer(data=request.data).is_valid(raise_exception=True)
        credentials.delete_devices([device], by=person)
        return Response(_done(uuid))


class DeviceCredentialHistoryView(APIView):
    @extend_schema(responses=answers.DeviceCredentialHistoryAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        """What opens the broker for the device and what has, newest first, for admins of its
        tenant; no secret, and of those long over only the newest few."""
        _, device = _administered(request, uuid)
        rows = device.tenant.credentials.filter(device_uuid=device.pk)
        found = rows.select_related("issued_by")[:CREDENTIALS_SHOWN]
        shown = [credential_representation(row) for row in found]
        return Response({**_done(uuid), "credentials": shown})


class RevokeDeviceView(APIView):
    @extend_schema(request=ReasonSerializer, responses=answers.DeviceStatusAnswer)
    def post(self, request: Request, uuid: UUID) -> Response:
        """Its connection ends within a second and no credential or token of it opens anything."""
        person, device = _administered(request, uuid)
        form = ReasonSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        credentials.revoke_device(device, by=person, reason=form.validated_data["reason"])
        return _status(device)


class ReinstateDeviceView(APIView):
    @extend_schema(request=None, responses=answers.DeviceStatusAnswer)
    def post(self, request: Request, uuid: UUID) -> Response:
        """Its token opens its endpoints again, and so it gets a new credential."""
        person, device = _administered(request, uuid)
        StrictSerializer(data=request.data).is_valid(raise_exception=True)
        credentials.reinstate_device(device, by=person)
        return _status(device)


class RotateDeviceView(APIView):
    @extend_schema(request=OverlapSerializer, responses={202: answers.DeviceAnswer})
    def post(self, request: Request, uuid: UUID) -> Response:
        """The agent is told to fetch a new credential; the old one works through the overlap."""
        person, device = _administered(request, uuid)
        form = OverlapSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        credentials.rotate_device(device, by=person, overlap=form.validated_data["overlap"])
        return Response(_done(uuid), status=202)


def _administered(request: Request, uuid: UUID) -> tuple[User, Device]:
    person = person_of(request)
    return person, access.device_for(request, uuid, role=Role.ADMIN)


def _done(uuid: UUID) -> dict[str, Any]:
    return {"success": True, "device_uuid": str(uuid)}


def _status(device: Device) -> Response:
    device.refresh_from_db()
    return Response(representations.status(device, current_cutoffs()))
