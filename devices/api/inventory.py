"""What people record about devices: the tags and custom fields of a tenant, and notes."""

from typing import Any

from django_filters import FilterSet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.mixins import CreateModelMixin, DestroyModelMixin, UpdateModelMixin
from rest_framework.request import Request

from devices.api.of_device import visible_device
from devices.inventory import custom_fields, notes, tags
from devices.inventory.custom_fields import MOST_CHOICES
from devices.inventory.rules import FieldType
from devices.models import CustomField, Note, Tag
from tenants.api.base.filters import VisibleFilter
from tenants.api.base.permissions import needed_role, require
from tenants.api.base.serializers import BoundedListField, RowSerializer, VisibleField
from tenants.api.base.viewsets import ResourceViewSet
from tenants.models import Role, Tenant


class TagSerializer(RowSerializer[Tag]):
    tenant = VisibleField(Tenant)

    class Meta:
        model = Tag
        fields = ["uuid", "tenant", "name"]
        create_only_fields = ["tenant"]


class CustomFieldSerializer(RowSerializer[CustomField]):
    tenant = VisibleField(Tenant)
    choices = BoundedListField(
        child=serializers.CharField(max_length=100),
        required=False,
        max_length=MOST_CHOICES,
        help_text="What a field of the type `choice` may hold.",
    )

    class Meta:
        model = CustomField
        fields = ["uuid", "tenant", "name", "type", "choices"]
        create_only_fields = ["tenant", "type"]


class TagFilters(FilterSet):
    tenant = VisibleFilter(Tenant)


class CustomFieldFilters(FilterSet):
    tenant = VisibleFilter(Tenant)


@extend_schema(tags=["Tags"])
@extend_schema_view(
    list=extend_schema(summary="List tags"),
    retrieve=extend_schema(summary="Show a tag"),
    create=extend_schema(summary="Create a tag"),
    partial_update=extend_schema(summary="Rename a tag"),
    destroy=extend_schema(summary="Delete a tag, and take it off all devices"),
)
class TagViewSet(CreateModelMixin, UpdateModelMixin, DestroyModelMixin, ResourceViewSet[Tag]):
    queryset = Tag.objects.none()
    serializer_class = TagSerializer
    filterset_class = TagFilters
    search_fields = ("name",)

    def perform_create(self, serializer: Any) -> None:
        serializer.instance = tags.create_tag(**serializer.validated_data, by=self.person)

    def perform_update(self, serializer: Any) -> None:
        tags.rename_tag(serializer.instance, **serializer.validated_data, by=self.person)

    def perform_destroy(self, instance: Tag) -> None:
        tags.delete_tag(instance, by=self.person)


@extend_schema(tags=["Custom fields"])
@extend_schema_view(
    list=extend_schema(summary="List custom fields"),
    retrieve=extend_schema(summary="Show a custom field"),
    create=extend_schema(summary="Define a custom field"),
    partial_update=extend_schema(summary="Rename a custom field, or change its choices"),
    destroy=extend_schema(summary="Delete a custom field and its values"),
)
class CustomFieldViewSet(
    CreateModelMixin, UpdateModelMixin, DestroyModelMixin, ResourceViewSet[CustomField]
):
    queryset = CustomField.objects.none()
    serializer_class = CustomFieldSerializer
    filterset_class = CustomFieldFilters
    search_fields = ("name",)

    def perform_create(self, serializer: Any) -> None:
        wanted = serializer.validated_data
        serializer.instance = custom_fields.create_field(
            wanted["tenant"],
            wanted["name"],
            FieldType(wanted["type"]),
            wanted.get("choices", ()),
            by=self.person,
        )

    def perform_update(self, serializer: Any) -> None:
        changes = serializer.validated_data
        custom_fields.change_field(serializer.instance, **changes, by=self.person)

    def perform_destroy(self, instance: CustomField) -> None:
        custom_fields.delete_field(instance, by=self.person)


class NoteSerializer(RowSerializer[Note]):
    author = serializers.CharField(source="author_name", read_only=True)

    class Meta:
        model = Note
        fields = ["uuid", "text", "author", "created_at"]
        read_only_fields = ["created_at"]


@extend_schema(tags=["Devices"])
@extend_schema_view(
    list=extend_schema(summary="List the notes on a device"),
    retrieve=extend_schema(summary="Show a note"),
    create=extend_schema(summary="Write a note"),
    destroy=extend_schema(
        summary="Delete a note", description="One's own, or as an admin anybody's."
    ),
)
class NoteViewSet(CreateModelMixin, DestroyModelMixin, ResourceViewSet[Note]):
    queryset = Note.objects.none()
    serializer_class = NoteSerializer
    ordering_fields = ("created_at",)
    ordering = "-created_at"
    roles = {"create": Role.OPERATOR, "destroy": Role.OPERATOR}

    def get_queryset(self) -> Any:
        return super().get_queryset().filter(device=self.device).select_related("device")

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.device = visible_device(request, kwargs["device"])
        require(request, self.device.tenant_id, needed_role(request, self))

    def perform_create(self, serializer: Any) -> None:
        text = serializer.validated_data["text"]
        serializer.instance = notes.add_note(self.device, text, by=self.person)

    def perform_destroy(self, instance: Note) -> None:
        if instance.author_id != self.person.pk:
            require(self.request, instance.device.tenant_id, Role.ADMIN)
        notes.delete_note(instance, by=self.person)
