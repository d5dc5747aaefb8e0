"""Organisations and groups of a tenant: the places to which devices belong."""

from typing import Any

from django_filters import FilterSet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.mixins import CreateModelMixin, DestroyModelMixin, UpdateModelMixin

from tenants.actions import tenants
from tenants.api.base.filters import VisibleFilter
from tenants.api.base.serializers import RowSerializer, VisibleField
from tenants.api.base.viewsets import ResourceViewSet
from tenants.models import Group, Organisation, Tenant


class OrganisationSerializer(RowSerializer[Organisation]):
    tenant = VisibleField(Tenant)

    class Meta:
        model = Organisation
        fields = ["uuid", "tenant", "name"]
        create_only_fields = ["tenant"]


class GroupSerializer(RowSerializer[Group]):
    organisation = VisibleField(Organisation)

    class Meta:
        model = Group
        fields = ["uuid", "tenant", "organisation", "name"]
        read_only_fields = ["tenant"]
        create_only_fields = ["organisation"]


class OrganisationFilters(FilterSet):
    tenant = VisibleFilter(Tenant)


class GroupFilters(FilterSet):
    tenant = VisibleFilter(Tenant)
    organisation = VisibleFilter(Organisation)


@extend_schema(tags=["Organisations"])
@extend_schema_view(
    list=extend_schema(summary="List organisations"),
    retrieve=extend_schema(summary="Show an organisation"),
    create=extend_schema(summary="Create an organisation"),
    partial_update=extend_schema(summary="Rename an organisation"),
    destroy=extend_schema(summary="Delete an organisation without devices, and its groups"),
)
class OrganisationViewSet(
    CreateModelMixin, UpdateModelMixin, DestroyModelMixin, ResourceViewSet[Organisation]
):
    queryset = Organisation.objects.none()
    serializer_class = OrganisationSerializer
    filterset_class = OrganisationFilters
    search_fields = ("name",)

    def perform_create(self, serializer: Any) -> None:
        wanted = serializer.validated_data
        serializer.instance = tenants.create_organisation(**wanted, by=self.person)

    def perform_update(self, serializer: Any) -> None:
        tenants.rename(serializer.instance, **serializer.validated_data, by=self.person)

    def perform_destroy(self, instance: Organisation) -> None:
        tenants.delete_place(instance, by=self.person)


@extend_schema(tags=["Groups"])
@extend_schema_view(
    list=extend_schema(summary="List groups"),
    retrieve=extend_schema(summary="Show a group"),
    create=extend_schema(summary="Create a group"),
    partial_update=extend_schema(summary="Rename a group"),
    destroy=extend_schema(summary="Delete a group without devices, and its enrolment keys"),
)
class GroupViewSet(CreateModelMixin, UpdateModelMixin, DestroyModelMixin, ResourceViewSet[Group]):
    queryset = Group.objects.none()
    serializer_class = GroupSerializer
    filterset_class = GroupFilters
    search_fields = ("name",)

    def perform_create(self, serializer: Any) -> None:
        serializer.instance = tenants.create_group(**serializer.validated_data, by=self.person)

    def perform_update(self, serializer: Any) -> None:
        tenants.rename(serializer.instance, **serializer.validated_data, by=self.person)

    def perform_destroy(self, instance: Group) -> None:
        tenants.delete_place(instance, by=self.person)
