"""Who belongs to a tenant, and with which role. A new role counts from the next request."""

from typing import Any

from django.db.models import QuerySet
from django_filters import ChoiceFilter, FilterSet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.mixins import CreateModelMixin, DestroyModelMixin, UpdateModelMixin

from tenants.actions import people
from tenants.api.base.filters import VisibleFilter
from tenants.api.base.serializers import RowSerializer, VisibleField
from tenants.api.base.viewsets import ResourceViewSet
from tenants.models import Membership, Role, Tenant, User


class UsernameField(serializers.SlugRelatedField[User]):
    """Accept the name of a person whom the caller may see."""

    default_error_messages = {"does_not_exist": "You know nobody with the username {value}."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(slug_field="username", **kwargs)

    def get_queryset(self) -> QuerySet[User]:
        return User.people.visible_to(self.context["request"].user)

    def to_internal_value(self, data: Any) -> User:
        return super().to_internal_value(serializers.CharField().run_validation(data))


class MembershipSerializer(RowSerializer[Membership]):
    tenant = VisibleField(Tenant)
    username = UsernameField(source="user", help_text="A member of a tenant that you administer.")

    class Meta:
        model = Membership
        fields = ["id", "tenant", "username", "role"]
        create_only_fields = ["tenant", "username"]
        extra_kwargs = {"role": {"required": True}}


class MembershipFilters(FilterSet):
    tenant = VisibleFilter(Tenant)
    role = ChoiceFilter(choices=Role.choices)


@extend_schema(tags=["Memberships"])
@extend_schema_view(
    list=extend_schema(summary="List members"),
    retrieve=extend_schema(summary="Show a membership"),
    create=extend_schema(summary="Add a member"),
    partial_update=extend_schema(summary="Change the role of a member"),
    destroy=extend_schema(summary="Remove a member; the last admin stays"),
)
class MembershipViewSet(
    CreateModelMixin, UpdateModelMixin, DestroyModelMixin, ResourceViewSet[Membership]
):
    queryset = Membership.objects.none()
    serializer_class = MembershipSerializer
    filterset_class = MembershipFilters
    lookup_field = "id"
    lookup_value_converter = "int"
    managed = True
    roles = {"list": Role.ADMIN, "retrieve": Role.ADMIN}
    ordering_fields = ("user__username", "id")
    ordering = "user__username"
    search_fields = ("user__username",)

    def get_queryset(self) -> QuerySet[Membership]:
        return super().get_queryset().select_related("user", "tenant")

    def perform_create(self, serializer: Any) -> None:
        wanted = serializer.validated_data
        serializer.instance = people.add_member(
            wanted["user"], wanted["tenant"], Role(wanted["role"]), by=self.person
        )

    def perform_update(self, serializer: Any) -> None:
        row, role = serializer.instance, Role(serializer.validated_data["role"])
        serializer.instance = people.set_membership(row.user, row.tenant, role, by=self.person)

    def perform_destroy(self, instance: Membership) -> None:
        people.remove_membership(instance, by=self.person)
