"""Enrolment keys of a tenant, and people's own API tokens. A secret is shown once."""

from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from django_filters import FilterSet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.mixins import CreateModelMixin, DestroyModelMixin

from tenants.actions import keys
from tenants.api.base.filters import VisibleFilter
from tenants.api.base.permissions import IsPerson
from tenants.api.base.serializers import RowSerializer, VisibleField
from tenants.api.base.viewsets import ResourceViewSet
from tenants.models import ApiToken, EnrollmentKey, Group, Role, Tenant

# A moment beyond all calendars is a mistake.
LONGEST = timedelta(days=10 * 365)


class FutureField(serializers.DateTimeField):
    """Accept a moment within the next ten years."""

    def to_internal_value(self, value: Any) -> datetime:
        moment = super().to_internal_value(value)
        if not timezone.now() < moment < timezone.now() + LONGEST:
            raise serializers.ValidationError("Not a moment within the next ten years.")
        return moment


class EnrolmentKeySerializer(RowSerializer[EnrollmentKey]):
    tenant = serializers.UUIDField(source="group.tenant_id", read_only=True)
    group = VisibleField(Group)
    expires_at = FutureField(allow_null=True, default=None, help_text="null: never.")
    created_by = serializers.CharField(source="created_by.username", default=None, read_only=True)
    refusal = serializers.CharField(read_only=True, help_text="Empty while the key is valid.")

    class Meta:
        model = EnrollmentKey
        fields = [
            *("id", "tenant", "group", "name", "hint", "max_uses", "expires_at", "uses"),
            *("last_used_at", "created_at", "created_by", "revoked_at", "refusal"),
        ]
        read_only_fields = ["hint", "uses", "last_used_at", "created_at", "revoked_at"]
        extra_kwargs = {"max_uses": {"min_value": 1, "help_text": "null: any number."}}


class NewEnrolmentKeySerializer(EnrolmentKeySerializer):
    enrollment_key = serializers.CharField(
        read_only=True, source="plain", help_text="It is shown only now."
    )

    class Meta(EnrolmentKeySerializer.Meta):
        fields = [*EnrolmentKeySerializer.Meta.fields, "enrollment_key"]


class EnrolmentKeyFilters(FilterSet):
    tenant = VisibleFilter(Tenant, field_name="group__tenant")
    group = VisibleFilter(Group)


class ApiTokenSerializer(RowSerializer[ApiToken]):
    id = serializers.CharField(source="digest", read_only=True)
    hint = serializers.CharField(source="token_key", read_only=True)
    created_at = serializers.DateTimeField(source="created", read_only=True)
    expires_at = FutureField(
        source="expiry", allow_null=True, help_text="null: never, until it is revoked."
    )

    class Meta:
        model = ApiToken
        fields = ["id", "name", "role", "hint", "created_at", "expires_at"]


class NewApiTokenSerializer(ApiTokenSerializer):
    token = serializers.CharField(read_only=True, source="plain", help_text="It is shown only now.")

    class Meta(ApiTokenSerializer.Meta):
        fields = [*ApiTokenSerializer.Meta.fields, "token"]


@extend_schema(tags=["Enrolment keys"])
@extend_schema_view(
    list=extend_schema(summary="List enrolment keys"),
    retrieve=extend_schema(summary="Show an enrolment key, without its secret"),
    create=extend_schema(
        summary="Create an enrolment key", responses={201: NewEnrolmentKeySerializer}
    ),
    destroy=extend_schema(summary="End an enrolment key; it stays in the list"),
)
class EnrolmentKeyViewSet(CreateModelMixin, DestroyModelMixin, ResourceViewSet[EnrollmentKey]):
    queryset = EnrollmentKey.objects.none()
    filterset_class = EnrolmentKeyFilters
    no_store = True
    lookup_field = "id"
    lookup_value_converter = "int"
    roles = {"list": Role.ADMIN, "retrieve": Role.ADMIN}
    ordering_fields = ("created_at", "name")
    ordering = "-created_at"
    search_fields = ("name",)

    def get_queryset(self) -> QuerySet[EnrollmentKey]:
        return super().get_queryset().select_related("group", "created_by")

    def get_serializer_class(self) -> type[EnrolmentKeySerializer]:
        return NewEnrolmentKeySerializer if self.action == "create" else EnrolmentKeySerializer

    def perform_create(self, serializer: Any) -> None:
        wanted = serializer.validated_data
        key, plain = keys.create_enrollment_key(**wanted, created_by=self.person)
        key.plain = plain  # type: ignore[attr-defined]
        serializer.instance = key

    def perform_destroy(self, instance: EnrollmentKey) -> None:
        keys.revoke_enrollment_key(instance, by=self.person)


@extend_schema(tags=["Your API tokens"])
@extend_schema_view(
    list=extend_schema(summary="List your API tokens"),
    retrieve=extend_schema(summary="Show one of your API tokens, without its secret"),
    create=extend_schema(summary="Create an API token", responses={201: NewApiTokenSerializer}),
    destroy=extend_schema(summary="Revoke one of your API tokens"),
)
class ApiTokenViewSet(CreateModelMixin, DestroyModelMixin, ResourceViewSet[ApiToken]):
    """The caller's own tokens. A token creates and revokes others if its role is admin."""

    queryset = ApiToken.objects.none()
    permission_classes = [IsPerson]
    no_store = True
    lookup_field = "digest"
    lookup_url_kwarg = "id"
    lookup_value_converter = "slug"
    ordering_fields = ("created", "name")
    ordering = "-created"

    def get_serializer_class(self) -> type[ApiTokenSerializer]:
        return NewApiTokenSerializer if self.action == "create" else ApiTokenSerializer

    def perform_create(self, serializer: Any) -> None:
        wanted = serializer.validated_data
        token, plain = keys.create_api_token(
            self.person,
            name=wanted["name"],
            role=Role(wanted["role"]),
            expires_at=wanted["expiry"],
            by=self.person,
        )
        token.plain = plain
        serializer.instance = token

    def perform_destroy(self, instance: ApiToken) -> None:
        keys.revoke_api_token(instance, by=self.person)
