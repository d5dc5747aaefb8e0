"""A tenant's own credentials at the broker, and the keys that sign them."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tenants.api import access
from tenants.api.base.fields import EpochField, SuccessField, TextOrNullField
from tenants.api.base.permissions import person_of
from tenants.api.base.serializers import OverlapSerializer, ReasonSerializer, StrictSerializer
from tenants.api.nats.broker import BrokerAddressesAnswer
from tenants.api.nats.tenants import TenantAnswer, tenant_response
from tenants.credentials.issue import Issued, issue_tenant_credential
from tenants.credentials.revocations import revoke_credential
from tenants.credentials.rotate import newest_credential, rotate_all, rotate_keys, rotate_tenant
from tenants.models import Credential, Tenant

# The first is the newest; older ones are in the audit.
CREDENTIALS_SHOWN = 200


class TenantIssueSerializer(StrictSerializer):
    kind = serializers.ChoiceField(
        Credential.Kind.choices, required=False, default=Credential.Kind.JWT
    )


class TenantRotationSerializer(TenantIssueSerializer, OverlapSerializer):
    replaces = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    all = serializers.BooleanField(required=False, default=False)


class CredentialAnswer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    kind = serializers.CharField()
    username = serializers.CharField()
    state = serializers.CharField(
        help_text="live, ending, expired, ended, or suspended with its tenant."
    )
    issued_at = EpochField()
    issued_by = serializers.CharField(source="issued_by.username", allow_null=True)
    first_used_at = EpochField(allow_null=True)
    last_used_at = EpochField(allow_null=True)
    expires_at = EpochField(allow_null=True)
    ends_at = EpochField(allow_null=True)
    ended_at = EpochField(allow_null=True)
    ended_by = TextOrNullField(source="ended_by_name")
    end_reason = serializers.CharField()


class TenantCredentialsAnswer(serializers.Serializer[Any]):
    success = SuccessField()
    tenant_uuid = serializers.UUIDField()
    credentials = CredentialAnswer(many=True)


class IssuedCredential(BrokerAddressesAnswer):
    success = SuccessField()
    credential = CredentialAnswer()
    username = serializers.CharField()
    secret = serializers.CharField(
        help_text="The `.creds` file or the password. It is shown only once."
    )


class TenantCredentialsView(APIView):
    @extend_schema(summary="List the tenant's own credentials", responses=TenantCredentialsAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        """List the tenant's own credentials, newest first, without their secrets."""
        tenant = access.tenant_for(request, uuid)
        rows = tenant.credentials.filter(device_uuid=None).select_related("issued_by")
        answer = {"tenant_uuid": tenant.pk, "credentials": rows[:CREDENTIALS_SHOWN]}
        return Response(TenantCredentialsAnswer(answer).data)

    @extend_schema(
        summary="Issue a credential to the tenant",
        request=TenantIssueSerializer,
        responses={201: IssuedCredential},
    )
    def post(self, request: Request, uuid: UUID) -> Response:
        """Issue one more; only this answer has its secret. Those in use stay valid, except that the
        first use of a new password ends the earlier passwords."""
        person = person_of(request)
        tenant = access.tenant_for(request, uuid)
        form = TenantIssueSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        kind = Credential.Kind(form.validated_data["kind"])
        return _issued(issue_tenant_credential(tenant, kind=kind, by=person))


class RotateTenantCredentialView(APIView):
    @extend_schema(
        summary="Replace the tenant's credential",
        request=TenantRotationSerializer,
        responses={201: IssuedCredential},
    )
    def post(self, request: Request, uuid: UUID) -> Response:
        """Issue a new credential in place of the current one; only this answer has its secret.
        `replaces` is the newest that the caller knows: if there is a newer one, the answer is
        409. `all` rotates the credentials of all devices as well."""
        person = person_of(request)
        tenant = access.tenant_for(request, uuid)
        form = TenantRotationSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        wanted = form.validated_data
        kind = Credential.Kind(wanted["kind"])
        rotate = rotate_all if wanted["all"] else rotate_tenant
        issued = rotate(
            tenant,
            by=person,
            overlap=wanted["overlap"],
            kind=kind,
            replaces=_replaced(tenant, kind, wanted),
        )
        return _issued(issued)


class RevokeTenantCredentialView(APIView):
    @extend_schema(
        summary="Revoke a credential of the tenant",
        request=ReasonSerializer,
        responses=CredentialAnswer,
    )
    def post(self, request: Request, uuid: UUID, credential_id: int) -> Response:
        person = person_of(request)
        tenant = access.tenant_for(request, uuid)
        credential = access.credential_of(tenant, credential_id)
        form = ReasonSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        revoke_credential(credential, by=person, reason=form.validated_data["reason"])
        credential.refresh_from_db()
        return Response(CredentialAnswer(credential).data)


class RotateTenantKeysView(APIView):
    @extend_schema(
        summary="Replace the keys that sign the tenant's credentials",
        request=OverlapSerializer,
        responses={202: TenantAnswer},
    )
    def post(self, request: Request, uuid: UUID) -> Response:
        """Replace the keys that sign the tenant's credentials. Credentials signed with the old keys
        work until the overlap ends; agents fetch new ones by then."""
        person = person_of(request)
        tenant = access.tenant_for(request, uuid)
        form = OverlapSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        rotate_keys(tenant, by=person, overlap=form.validated_data["overlap"])
        return tenant_response(access.tenant_for(request, uuid), status=202)


def _replaced(tenant: Tenant, kind: Credential.Kind, wanted: dict[str, Any]) -> Credential | None:
    """Return the credential to replace, by default the newest.

    Raises ValidationError for one of another kind, and where none is named with an overlap of 0: of
    two callers at once, the second would end the credential that the first has just got.
    """
    number = wanted.get("replaces")
    if number is None:
        newest = newest_credential(tenant.pk, kind)
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


def _issued(issued: Issued) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(IssuedCredential(issued).data, status=201, headers=headers)
