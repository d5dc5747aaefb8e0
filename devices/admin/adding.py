"""Record a device that was registered by other means; all others enrol by themselves."""

from typing import Any, cast
from uuid import UUID

from django import forms
from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from devices.enrolment import actions as enrolment
from devices.errors import TooManyDevices
from devices.inventory.details import move_device
from devices.models import Connectivity, Device
from tenants.admin.choices import GroupChoiceField
from tenants.admin.writing import person_of
from tenants.models import Group


class RecordForm(forms.ModelForm):
    group = GroupChoiceField()
    name = forms.CharField(max_length=255, widget=UnfoldAdminTextInputWidget)
    device_uuid = forms.UUIDField(
        label="UUID",
        required=False,
        help_text="The UUID in the agent's configuration. Leave it empty for a new one.",
        widget=UnfoldAdminTextInputWidget,
    )
    connection_type = forms.CharField(
        max_length=cast(int, Connectivity._meta.get_field("connection_type").max_length),
        initial="node-red",
        help_text="How it has been connected until now. Its agent moves to NATS by an upgrade.",
        widget=UnfoldAdminTextInputWidget,
    )

    class Meta:
        model = Device
        fields = ("group", "name")

    def clean_group(self) -> Group:
        group: Group = self.cleaned_data["group"]
        try:
            enrolment.refuse_too_many(group.tenant)
        except TooManyDevices as error:
            raise forms.ValidationError(str(error)) from error
        return group

    def clean_device_uuid(self) -> UUID | None:
        wanted: UUID | None = self.cleaned_data["device_uuid"]
        if wanted and Device.objects.filter(pk=wanted).exists():
            raise forms.ValidationError("A device with this UUID exists already.")
        return wanted


class AddingAdmin(ModelAdmin):
    """The part of DeviceAdmin that adds devices; it needs the permission to add them."""

    add_fieldsets = ((None, {"fields": ("group", "name", "device_uuid", "connection_type")}),)

    def get_form(
        self, request: HttpRequest, obj: Device | None = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm]:
        if not change:
            kwargs["form"] = RecordForm
        form: type[forms.ModelForm] = super().get_form(request, obj, change, **kwargs)
        return form

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return super().get_readonly_fields(request, obj) if obj else ()

    def get_inlines(self, request: HttpRequest, obj: Model | None) -> Any:
        return super().get_inlines(request, obj) if obj else ()

    def save_model(
        self, request: HttpRequest, obj: Device, form: forms.ModelForm, change: bool
    ) -> None:
        if change:
            move_device(obj, obj.group, by=person_of(request))
            return
        wanted = form.cleaned_data
        device = enrolment.record_existing(
            wanted["group"],
            wanted["name"],
            wanted["device_uuid"],
            wanted["connection_type"],
            by=person_of(request),
        )
        obj.pk = device.pk
