"""Forms for what people record about devices, and for the tags and fields that they define."""

from typing import Any

from django import forms

from devices.inventory.custom_fields import MOST_CHOICES
from devices.inventory.rules import LONGEST_TEXT, FieldType
from devices.models import CustomField, Device, Note, Tag
from devices.models.inventory import FIELD_TYPES
from tenants.forms.choices import PlaceChoice
from tenants.forms.credentials import REASON_MAX
from tenants.models import Group, Role, User, has_role
from tenants.names import validate_name

# Before the id of a custom field, in the name of its input.
VALUE = "value-"


class DetailsForm(forms.Form):
    """What people record about a device, all at once. Only admins move it."""

    name = forms.CharField(max_length=255, validators=[validate_name])
    group = PlaceChoice(Group.objects.none(), empty_label=None)
    tags = forms.MultipleChoiceField(required=False, widget=forms.CheckboxSelectMultiple)

    def __init__(self, data: Any = None, *, device: Device, person: User) -> None:
        self.fields_of_tenant = CustomField.objects.visible_to(person).filter(
            tenant=device.tenant_id
        )
        tags = Tag.objects.visible_to(person).filter(tenant=device.tenant_id)
        names = list(tags.values_list("name", flat=True))
        super().__init__(
            data, initial={"name": device.name, "group": device.group_id, "tags": device.tag_names}
        )
        self.fields["tags"].choices = [(name, name) for name in names]  # type: ignore[attr-defined]
        if not names:
            del self.fields["tags"]
        groups = Group.objects.visible_to(person).filter(tenant=device.tenant_id)
        self.fields["group"].queryset = groups.select_related(  # type: ignore[attr-defined]
            "tenant", "organisation"
        ).order_by("organisation__name", "name")
        if not has_role(person, device.tenant_id, Role.ADMIN):
            del self.fields["group"]
        for field in self.fields_of_tenant:
            self.fields[f"{VALUE}{field.key}"] = _input(field, device.custom_values.get(field.key))

    def changes(self) -> dict[str, Any]:
        """Return what the person asks for, as `change_device` takes it."""
        data = self.cleaned_data
        values = {field.name: data[f"{VALUE}{field.key}"] for field in self.fields_of_tenant}
        return {
            "name": data["name"],
            "group": data.get("group"),
            "tags": data.get("tags"),
            "values": values or None,
        }


class ArchiveForm(forms.Form):
    reason = forms.CharField(max_length=REASON_MAX, required=False)


class NoteForm(forms.ModelForm):
    class Meta:
        model = Note
        fields = ["text"]
        widgets = {"text": forms.Textarea(attrs={"rows": 2, "placeholder": "Write a note"})}


class TagForm(forms.Form):
    name = forms.CharField(max_length=50, validators=[validate_name])


class FieldForm(forms.Form):
    name = forms.CharField(max_length=50, validators=[validate_name])
    type = forms.ChoiceField(choices=FIELD_TYPES)
    choices = forms.CharField(
        required=False,
        max_length=101 * MOST_CHOICES,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="One on each line, for the type Choice.",
    )

    def clean_choices(self) -> list[str]:
        lines = (line.strip() for line in self.cleaned_data["choices"].splitlines())
        found = [line for line in lines if line]
        for line in found:
            validate_name(line)
            if len(line) > 100:
                raise forms.ValidationError(f"At most 100 characters: {line[:40]}…")
        return found


class ChangeFieldForm(FieldForm):
    """The type stays: the values are of it."""

    type = None  # type: ignore[assignment]

    def __init__(self, data: Any = None, *, field: CustomField) -> None:
        super().__init__(data, initial={"name": field.name, "choices": "\n".join(field.choices)})
        if field.type != FieldType.CHOICE:
            del self.fields["choices"]


def _input(field: CustomField, held: Any) -> forms.Field:
    options: dict[str, Any] = {"label": field.name, "required": False, "initial": held}
    match FieldType(field.type):
        case FieldType.CHOICE:
            choices = [("", "—"), *((each, each) for each in field.choices)]
            return forms.ChoiceField(choices=choices, **options)
        case FieldType.NUMBER:
            return forms.FloatField(
                widget=forms.NumberInput(attrs={"step": "any"}), **options, localize=False
            )
        case FieldType.DATE:
            return forms.DateField(
                widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
                input_formats=["%Y-%m-%d"],
                **options,
            )
    return forms.CharField(max_length=LONGEST_TEXT, **options)
