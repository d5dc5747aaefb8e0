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
from tenants.api.representations import broker_addresses, epoch
from tenants.api.serializers import OverlapSerializer, ReasonSerializer, StrictSerializer
from tenants.api.tenants import TenantAnswer, tenant_response
from tenants.credentials.issue import Issued, issue_tenant_credential
from tenants.credentials.revocations import revoke_credential
from tenants.credentials.rotate import newest_credential, rotate_all, rotate_keys, rotate_tenant
from tenants.models import Credential, Tenant, User

# The first is the newest; older ones are in the audit.
CREDENTIALS_SHOWN = 200


class TenantIssueSerializer(StrictSerializer):
    kind = serializers.ChoiceField(
        Credential.Kind.choices, required=False, default=Credential.Kind.JWT
    )


class TenantRotationSerializer(TenantIssueSerializer, OverlapSerializer):
    replaces = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    all = serializers.BooleanField(required=False, default=False)


class BrokerAddressesAnswer(serializers.Serializer[Any]):
    nats_url = serializers.CharField(help_text="The first of `nats_urls`.")
    nats_urls = serializers.ListField(
        child=serializers.CharField(),
        help_text="All addresses of the broker, to be tried in turn; they may differ in scheme.",
    )


class CredentialAnswer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    kind = serializers.CharField()
    username = serializers.CharField()
    state = serializers.CharField(
        help_text="live, ending, expired, ended, or suspended with its tenant."
    )
    issued_at = serializers.FloatField()
    issued_by = serializers.CharField(allow_null=True)
    first_used_at = serializers.FloatField(allow_null=True)
    last_used_at = serializers.FloatField(allow_null=True)
    expires_at = serializers.FloatField(allow_null=True)
    ends_at = serializers.FloatField(allow_null=True)
    ended_at = serializers.FloatField(allow_null=True)
    ended_by = serializers.CharField(allow_null=True)
    end_reason = serializers.CharField()


class TenantCredentialsAnswer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    tenant_uuid = serializers.UUIDField()
    credentials = CredentialAnswer(many=True)


class IssuedCredential(BrokerAddressesAnswer):
    success = serializers.BooleanField()
    credential = CredentialAnswer()
    username = serializers.CharField()
    secret = serializers.CharField(help_text="The `.creds` file, or the password. Shown once.")


class TenantCredentialsView(APIView):
    @extend_schema(responses=TenantCredentialsAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        """The tenant's own, newest first; not those of its devices, and no secret."""
        tenant = access.tenant_for(request, uuid)
        rows = tenant.credentials.filter(device_uuid=None).select_related("issued_by")
        shown = [credential_representation(row) for row in rows[:CREDENTIALS_SHOWN]]
        return Response({"success": True, "tenant_uuid": str(tenant.pk), "credentials": shown})

    @extend_schema(request=TenantIssueSerializer, responses={201: IssuedCredential})
    def post(self, request: Request, uuid: UUID) -> Response:
        """One more, whose secret is in this answer and nowhere else. Those in use stay as they
        are, but the first use of a new password ends the passwords before it."""
        person = access.person_of(request)
        tenant = access.tenant_for(request, uuid)
        form = TenantIssueSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        kind = Credential.Kind(form.validated_data["kind"])
        return _issued(issue_tenant_credential(tenant, kind=kind, by=person))


class RotateTenantCredentialView(APIView):
    @extend_schema(request=TenantRotationSerializer, responses={201: IssuedCredential})
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
    @extend_schema(request=ReasonSerializer, responses=CredentialAnswer)
    def post(self, request: Request, uuid: UUID, credential_id: int) -> Response:
        person = access.person_of(request)
        tenant = access.tenant_for(request, uuid)
        credential = access.credential_of(tenant, credential_id)
        form = ReasonSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        revoke_credential(credential, by=person, reason=form.validated_data["reason"])
        credential.refresh_from_db()
        return Response(credential_representation(credential))


class RotateTenantKeysView(APIView):
    @extend_schema(request=OverlapSerializer, responses={202: TenantAnswer})
    def post(self, request: Request, uuid: UUID) -> Response:
        """New signing keys of the tenant's account; credentials of the old ones work through the
        overlap, in which each agent fetches a new one."""
        person = access.person_of(request)
        tenant = access.tenant_for(request, uuid)
        form = OverlapSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        rotate_keys(tenant, by=person, overlap=form.validated_data["overlap"])
        return tenant_response(access.tenant_for(request, uuid), status=202)


def _replaced(tenant: Tenant, kind: Credential.Kind, wanted: dict[str, Any]) -> Credential | None:
    """What the caller wants replaced. Raises ValidationError where it is another's place, and
    where it has to be named: of two who end the newest at once, the second would end the first's.
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
    answer = {
        "success": True,
        "credential": credential_representation(issued.credential),
        "username": issued.username,
        "secret": issued.secret,
        **broker_addresses(),
    }
    return Response(answer, status=201, headers={"Cache-Control": "no-store"})


def credential_representation(row: Credential) -> dict[str, Any]:
    return {
        "id": row.pk,
        "kind": row.kind,
        "username": row.username,
        "state": row.state,
        "issued_at": epoch(row.issued_at),
        "issued_by": _name(row.issued_by),
        "first_used_at": epoch(row.first_used_at),
        "last_used_at": epoch(row.last_used_at),
        "expires_at": epoch(row.expires_at),
        "ends_at": epoch(row.ends_at),
        "ended_at": epoch(row.ended_at),
        "ended_by": row.ended_by_name or None,
        "end_reason": row.end_reason,
    }


def _name(person: User | None) -> str | None:
    return person.get_username() if person else None
