"""The audit of a tenant, for its admins."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import StreamingHttpResponse
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tenants.api import access
from tenants.api.base.parsers import IgnoreFormat
from tenants.api.base.permissions import person_of
from tenants.api.base.serializers import StrictSerializer
from tenants.audit.export import FORMATS, export
from tenants.audit.writer import record_export
from tenants.models import AuditEntry, AuditFilter, Tenant
from tenants.models.audit import TENANT_ACTION_CHOICES, AuditEntryQuerySet

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000


@extend_schema_field(OpenApiTypes.STR)
class MomentField(serializers.Field[datetime, Any, Any, Any]):
    """Read epoch seconds, as in the answers, or ISO 8601, in UTC unless it names a zone."""

    def to_internal_value(self, data: Any) -> datetime:
        try:
            return datetime.fromtimestamp(float(data), UTC)
        except (ValueError, OverflowError, OSError):
            pass
        try:
            at = datetime.fromisoformat(str(data))
        except ValueError as error:
            raise serializers.ValidationError(
                "Not a valid time: use epoch seconds or ISO 8601."
            ) from error
        return at if at.tzinfo else at.replace(tzinfo=UTC)

    def to_representation(self, value: datetime) -> str:
        return value.isoformat()


class AuditFilterSerializer(StrictSerializer):
    action = serializers.ChoiceField(TENANT_ACTION_CHOICES, required=False)
    actor = serializers.CharField(required=False, max_length=200, help_text="The exact name.")
    device = serializers.UUIDField(required=False)
    since = MomentField(required=False, help_text="Epoch seconds or ISO 8601.")
    until = MomentField(required=False, help_text="Epoch seconds or ISO 8601; excluded.")


class AuditPageSerializer(AuditFilterSerializer):
    cursor = serializers.IntegerField(
        required=False, min_value=1, max_value=2**63 - 1, help_text="From `next`."
    )
    limit = serializers.IntegerField(
        required=False, default=DEFAULT_LIMIT, min_value=1, max_value=MAX_LIMIT
    )


class AuditExportSerializer(AuditFilterSerializer):
    format = serializers.ChoiceField(list(FORMATS), required=False, default="csv")


class AuditEntryAnswer(serializers.Serializer[AuditEntry]):
    id = serializers.IntegerField()
    at = serializers.SerializerMethodField(help_text="Epoch seconds.")
    action = serializers.ChoiceField(TENANT_ACTION_CHOICES)
    actor_kind = serializers.CharField()
    actor = serializers.CharField()
    device_uuid = serializers.UUIDField(allow_null=True)
    target = serializers.CharField()
    address = serializers.CharField()
    via = serializers.CharField()
    count = serializers.IntegerField(help_text="The number of equal events in this row.")
    detail = serializers.JSONField()
    sealed = serializers.SerializerMethodField()

    def get_at(self, entry: AuditEntry) -> float:
        return entry.at.timestamp()

    def get_sealed(self, entry: AuditEntry) -> bool:
        return entry.sequence is not None


class AuditPageAnswer(serializers.Serializer[Any]):
    tenant_uuid = serializers.UUIDField()
    entries = AuditEntryAnswer(many=True, help_text="Newest first.")
    next = serializers.URLField(allow_null=True)


class TenantAuditView(APIView):
    @extend_schema(
        summary="List the audit of a tenant",
        parameters=[AuditPageSerializer],
        responses=AuditPageAnswer,
    )
    def get(self, request: Request, uuid: UUID) -> Response:
        tenant = access.tenant_for(request, uuid)
        form = AuditPageSerializer(data=request.query_params)
        form.is_valid(raise_exception=True)
        entries = _entries_of(tenant).matching(_filter(form)).order_by("-id")
        if "cursor" in form.validated_data:
            entries = entries.filter(id__lt=form.validated_data["cursor"])
        limit = form.validated_data["limit"]
        found = list(entries[: limit + 1])
        shown = found[:limit]
        following = None
        if len(found) > limit:
            following = _following(request, uuid, shown[-1])
        answer = {"tenant_uuid": uuid, "entries": shown, "next": following}
        return Response(AuditPageAnswer(answer).data, headers={"Cache-Control": "no-store"})


class TenantAuditExportView(APIView):
    content_negotiation_class = IgnoreFormat

    @extend_schema(
        summary="Download the audit of a tenant",
        parameters=[AuditExportSerializer],
        responses={
            (200, "text/csv"): OpenApiResponse(OpenApiTypes.STR, "Oldest first."),
            (200, "application/x-ndjson"): OpenApiResponse(
                OpenApiTypes.STR, "One entry a line, oldest first."
            ),
        },
    )
    def get(self, request: Request, uuid: UUID) -> StreamingHttpResponse:
        tenant = access.tenant_for(request, uuid)
        form = AuditExportSerializer(data=request.query_params)
        form.is_valid(raise_exception=True)
        wanted, format = _filter(form), form.validated_data["format"]
        person = person_of(request)
        record_export(tenant.pk, by=person, format=format, wanted=wanted.described())
        return export(_entries_of(tenant).matching(wanted), format)


def _entries_of(tenant: Tenant) -> AuditEntryQuerySet:
    """Return all entries of the tenant; the caller has been checked."""
    return AuditEntry.objects.of_tenant(tenant)


def _filter(form: AuditFilterSerializer) -> AuditFilter:
    names = AuditFilter.__dataclass_fields__.keys() & form.validated_data.keys()
    return AuditFilter(**{name: form.validated_data[name] for name in names})


def _following(request: Request, tenant: UUID, last: AuditEntry) -> str:
    query = {**request.query_params.dict(), "cursor": last.pk}
    return request.build_absolute_uri(f"{reverse('nats:audit', args=[tenant])}?{urlencode(query)}")
