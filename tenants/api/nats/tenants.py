"""A tenant: its state at the broker, its suspension, its limits.

Its admins may read it. Suspending, resuming and limits are for staff with a token of the role
admin: a tenant must not lift its own suspension, nor take more of a broker that it shares.
"""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tenants.actions.limits import set_limits, tenant_limits
from tenants.actions.suspension import resume_tenant, suspend_tenant
from tenants.api import access
from tenants.api.base.fields import EpochField, SuccessField, TextOrNullField
from tenants.api.base.permissions import person_of
from tenants.api.base.serializers import ReasonSerializer, StrictSerializer
from tenants.models import BrokerAccount, Tenant


class LimitField(serializers.IntegerField):
    def __init__(self, largest: int) -> None:
        super().__init__(
            required=False, allow_null=True, default=None, min_value=-1, max_value=largest
        )


class LimitsSerializer(StrictSerializer):
    """Limits of a tenant: null for the default of the installation, -1 for unlimited."""

    max_connections = LimitField(2**31 - 1)
    max_subscriptions = LimitField(2**31 - 1)
    max_payload_bytes = LimitField(2**31 - 1)
    storage_bytes = LimitField(2**63 - 1)
    max_devices = LimitField(2**31 - 1)


class ProvisioningAnswer(serializers.Serializer[Tenant]):
    state = serializers.SerializerMethodField(
        help_text="none, waiting, failed, suspended or provisioned."
    )
    waiting = serializers.SerializerMethodField(help_text="Changes are pending at the broker.")
    provisioned_at = EpochField(source="broker_account.provisioned_at", allow_null=True)
    error = serializers.SerializerMethodField(
        help_text="The message of the broker if the last attempt failed."
    )

    def get_state(self, row: Tenant) -> str:
        account = _account(row)
        return account.state if account else "none"

    def get_waiting(self, row: Tenant) -> bool:
        account = _account(row)
        return account is None or account.waits

    def get_error(self, row: Tenant) -> str:
        account = _account(row)
        return account.last_error if account else ""


class LimitAnswer(serializers.Serializer[Any]):
    value = serializers.IntegerField(help_text="The limit in effect; -1 is unlimited.")
    default = serializers.IntegerField()
    own = serializers.IntegerField(
        allow_null=True, help_text="The limit set for this tenant, if any."
    )


class LimitsAnswer(serializers.Serializer[Any]):
    max_connections = LimitAnswer()
    max_subscriptions = LimitAnswer()
    max_payload_bytes = LimitAnswer()
    storage_bytes = LimitAnswer()
    max_devices = LimitAnswer()

    def to_representation(self, row: Tenant) -> dict[str, Any]:
        return super().to_representation(tenant_limits(row))


class TenantCountsAnswer(serializers.Serializer[Tenant]):
    devices = serializers.IntegerField(source="devices.count")
    revoked_devices = serializers.SerializerMethodField()
    groups = serializers.IntegerField(source="groups.count")
    members = serializers.IntegerField(source="memberships.count")
    live_credentials = serializers.SerializerMethodField(
        help_text="The tenant's own, without those of its devices."
    )

    def get_revoked_devices(self, row: Tenant) -> int:
        return row.devices.exclude(revoked_at=None).count()

    def get_live_credentials(self, row: Tenant) -> int:
        if row.suspended_at:
            return 0
        return row.credentials.live().filter(device_uuid=None).count()


class TenantAnswer(serializers.Serializer[Tenant]):
    success = SuccessField()
    tenant_uuid = serializers.UUIDField(source="pk")
    name = serializers.CharField()
    suspended = serializers.SerializerMethodField()
    suspended_at = EpochField(allow_null=True)
    suspended_by = TextOrNullField(source="suspended_by_name")
    suspended_reason = serializers.CharField()
    provisioning = ProvisioningAnswer(source="*")
    limits = LimitsAnswer(source="*")
    counts = TenantCountsAnswer(source="*")

    def get_suspended(self, row: Tenant) -> bool:
        return row.suspended_at is not None


class TenantView(APIView):
    @extend_schema(summary="Show a tenant", responses=TenantAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        return tenant_response(access.tenant_for(request, uuid))


class SuspendTenantView(APIView):
    @extend_schema(summary="Suspend a tenant", request=ReasonSerializer, responses=TenantAnswer)
    def post(self, request: Request, uuid: UUID) -> Response:
        """Suspend the tenant (staff only): its connections end, and no new one is accepted until
        it is resumed."""
        person = person_of(request)
        tenant = access.tenant_managed_by_staff(request, uuid)
        form = ReasonSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        suspend_tenant(tenant, by=person, reason=form.validated_data["reason"])
        return tenant_response(access.tenant_managed_by_staff(request, uuid))


class ResumeTenantView(APIView):
    @extend_schema(summary="Resume a tenant", request=None, responses=TenantAnswer)
    def post(self, request: Request, uuid: UUID) -> Response:
        """Resume a suspended tenant (staff only)."""
        person = person_of(request)
        tenant = access.tenant_managed_by_staff(request, uuid)
        StrictSerializer(data=request.data).is_valid(raise_exception=True)
        resume_tenant(tenant, by=person)
        return tenant_response(access.tenant_managed_by_staff(request, uuid))


class TenantLimitsView(APIView):
    @extend_schema(
        summary="Set all limits of a tenant", request=LimitsSerializer, responses=TenantAnswer
    )
    def put(self, request: Request, uuid: UUID) -> Response:
        """Set all limits (staff only). null or a missing one is the default; -1 is unlimited."""
        return self._set(request, uuid, partial=False)

    @extend_schema(
        summary="Change some limits of a tenant", request=LimitsSerializer, responses=TenantAnswer
    )
    def patch(self, request: Request, uuid: UUID) -> Response:
        """Change some limits (staff only). A missing one is not changed."""
        return self._set(request, uuid, partial=True)

    def _set(self, request: Request, uuid: UUID, *, partial: bool) -> Response:
        person = person_of(request)
        tenant = access.tenant_managed_by_staff(request, uuid)
        form = LimitsSerializer(data=request.data, partial=partial)
        form.is_valid(raise_exception=True)
        set_limits(tenant, by=person, **form.validated_data)
        return tenant_response(access.tenant_managed_by_staff(request, uuid))


def tenant_response(tenant: Tenant, status: int = 200) -> Response:
    return Response(TenantAnswer(tenant).data, status=status)


def _account(row: Tenant) -> BrokerAccount | None:
    return getattr(row, "broker_account", None)
