"""A tenant at the broker: how it stands, its credentials, its keys, its limits.

The tenant's admins do what concerns their own secrets. Suspending, resuming and limits are for
staff alone, with a token of the role admin: a tenant must not lift its own suspension, nor take
more of a broker that it shares with others.
"""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices.api import access, answers
from devices.api import tenant_representations as representations
from devices.api.serializers import (
    LimitsSerializer,
    OverlapSerializer,
    ReasonSerializer,
    StrictSerializer,
    TenantIssueSerializer,
    TenantRotationSerializer,
)
from devices.enrolment import credentials as devices
from devices.representations import broker_addresses
from tenants.actions import limits, suspension
from tenants.credentials import revocations
from tenants.models import Credential, Tenant

# The first is the newest; older ones are in the audit.
CREDENTIALS_SHOWN = 200


class TenantView(APIView):
    @extend_schema(responses=answers.TenantAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        return _tenant(access.tenant_for(request, uuid))


class TenantCredentialsView(APIView):
    @extend_schema(responses=answers.TenantCredentialsAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        """The tenant's own, newest first; not those of its devices, and no secret."""
        tenant = access.tenant_for(request, uuid)
        rows = tenant.credentials.filter(device_uuid=None).select_related("issued_by")
        shown = [representations.credential(row) for row in rows[:CREDENTIALS_SHOWN]]
        return Response({"success": True, "tenant_uuid": str(tenant.pk), "credentials": shown})

    @extend_schema(request=TenantIssueSerializer, responses={201: answers.IssuedCredential})
    def post(self, request: Request, uuid: UUID) -> Response:
        """One more, whose secret is in this answer and nowhere else. Those in use stay as they
        are, but the first use of a new password ends the passwords before it."""
        person = access.person_of(request)
        tenant = access.tenant_for(request, uuid)
        form = TenantIssueSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        kind = Credential.Kind(form.validated_data["kind"])
        return _issued(revocations.issue_tenant_credential(tenant, kind=kind, by=person))


class RotateTenantCredentialView(APIView):
    @extend_schema(request=TenantRotationSerializer, responses={201: answers.IssuedCredential})
    def post(self, request: Request, uuid: UUID) -> Response:
        """A new credential, whose secret is in this answer and nowhere else. `replaces` is the
        newest that the caller knows of: if there is a newer one, it is told (409). `all` ends
        those of all devices as well."""
        person = access.person_of(request)
        tenant = access.tenant_for(request, uuid)
        form = TenantRotationSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        wanted = form.validated_data
        kind = Credential.Kind(wanted["kind"])
        rotate = devices.rotate_all if wanted["all"] else revocations.rotate_tenant
        issued = rotate(
            tenant,
            by=person,
            overlap=wanted["overlap"],
            kind=kind,
            replaces=_replaced(tenant, kind, wanted),
        )
        return _issued(issued)


class RevokeTenantCredentialView(APIView):
    @extend_schema(request=ReasonSerializer, responses=answers.CredentialAnswer)
    def post(self, request: Request, uuid: UUID, credential_id: int) -> Response:
        person = access.person_of(request)
        tenant = access.tenant_for(request, uuid)
        credential = access.credential_of(tenant, credential_id)
        form = ReasonSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        revocations.revoke(credential, by=person, reason=form.validated_data["reason"])
        credential.refresh_from_db()
        return Response(representations.credential(credential))


class RotateTenantKeysView(APIView):
    @extend_schema(request=OverlapSerializer, responses={202: answers.TenantAnswer})
    def post(self, request: Request, uuid: UUID) -> Response:
        """New signing keys of the tenant's account; credentials of the old ones work through the
        overlap, in which each agent fetches a new one."""
        person = access.person_of(request)
        tenant = access.tenant_for(request, uuid)
        form = OverlapSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        revocations.rotate_keys(tenant, by=person, overlap=form.validated_data["overlap"])
        return _tenant(access.tenant_for(request, uuid), status=202)


class SuspendTenantView(APIView):
    @extend_schema(request=ReasonSerializer, responses=answers.TenantAnswer)
    def post(self, request: Request, uuid: UUID) -> Response:
        """For staff. Everybody of the tenant is disconnected, and kept out until it is resumed."""
        person = access.person_of(request)
        tenant = access.tenant_managed_by_staff(request, uuid)
        form = ReasonSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        suspension.suspend_tenant(tenant, by=person, reason=form.validated_data["reason"])
        return _tenant(access.tenant_managed_by_staff(request, uuid))


class ResumeTenantView(APIView):
    @extend_schema(request=None, responses=answers.TenantAnswer)
    def post(self, request: Request, uuid: UUID) -> Response:
        """For staff."""
        person = access.person_of(request)
        tenant = access.tenant_managed_by_staff(request, uuid)
        StrictSerializer(data=request.data).is_valid(raise_exception=True)
        suspension.resume_tenant(tenant, by=person)
        return _tenant(access.tenant_managed_by_staff(request, uuid))


class TenantLimitsView(APIView):
    @extend_schema(request=LimitsSerializer, responses=answers.TenantAnswer)
    def put(self, request: Request, uuid: UUID) -> Response:
        """For staff. What is left out or null is the installation's default; -1 is no limit."""
        return self._set(request, uuid, partial=False)

    @extend_schema(request=LimitsSerializer, responses=answers.TenantAnswer)
    def patch(self, request: Request, uuid: UUID) -> Response:
        """For staff. What is left out stays as it is."""
        return self._set(request, uuid, partial=True)

    def _set(self, request: Request, uuid: UUID, *, partial: bool) -> Response:
        person = access.person_of(request)
        tenant = access.tenant_managed_by_staff(request, uuid)
        form = LimitsSerializer(data=request.data, partial=partial)
        form.is_valid(raise_exception=True)
        limits.set_limits(tenant, by=person, **form.validated_data)
        return _tenant(access.tenant_managed_by_staff(request, uuid))


def _tenant(tenant: Tenant, status: int = 200) -> Response:
    body = representations.tenant(tenant, limits.of(tenant))
    return Response(body, status=status)


def _replaced(tenant: Tenant, kind: Credential.Kind, wanted: dict[str, Any]) -> Credential | None:
    """What the caller wants replaced. Raises ValidationError where it is another's place, and
    where it has to be named: of two who end the newest at once, the second would end the first's.
    """
    number = wanted.get("replaces")
    if number is None:
        newest = revocations.newest(tenant.pk, kind)
        if newest and not wanted["overlap"]:
            raise ValidationError(
                {"replaces": f"Needed with an overlap of 0; the newest is {newest.pk}."}
            )
        return newest
    found = access.credential_of(tenant, number)
    if found.kind != kind:
        own, other = (Credential.Kind(each).label for each in (found.kind, kind))
        raise ValidationError({"replaces": f"{number} is a {own}, but `kind` asks for a {other}."})
    return found


def _issued(issued: revocations.Issued) -> Response:
    answer = {
        "success": True,
        "credential": representations.credential(issued.credential),
        "username": issued.username,
        "secret": issued.secret,
        **broker_addresses(),
    }
    return Response(answer, status=201, headers={"Cache-Control": "no-store"})
