"""The admin of what people record about devices; its admins change it on their tenant's pages."""

from django.contrib import admin
from unfold.contrib.filters.admin import RelatedDropdownFilter

from devices.models import CustomField, Note, Tag
from natsbridge.admin.base import ReadOnlyAdmin


@admin.register(Tag)
class TagAdmin(ReadOnlyAdmin):
    list_display = ("name", "tenant")
    list_select_related = ("tenant",)
    list_filter = (("tenant", RelatedDropdownFilter),)
    search_fields = ("name",)
    fields = ("name", "tenant", "uuid")


@admin.register(CustomField)
class CustomFieldAdmin(ReadOnlyAdmin):
    list_display = ("name", "type", "tenant")
    list_select_related = ("tenant",)
    list_filter = (("tenant", RelatedDropdownFilter), "type")
    search_fields = ("name",)
    fields = ("name", "type", "choices", "tenant", "uuid")


@admin.register(Note)
class NoteAdmin(ReadOnlyAdmin):
    list_display = ("device", "author_name", "created_at")
    list_select_related = ("device",)
    search_fields = ("device__name", "author_name")
    fields = ("device", "text", "author_name", "created_at", "uuid")
