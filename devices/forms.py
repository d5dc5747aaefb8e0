"""The pages' forms: they read what a person typed; actions decide and write."""

import json
from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.db.models import F, Q
from django.db.models.fields.json import KeyTextTransform, KeyTransform
from django.utils import timezone

from devices.commands.rules import json_values
from devices.commands.rules.capabilities import Offer, Parameter
from devices.errors import UnfitJson
from devices.models import Device
from devices.models.device import DeviceQuerySet
from devices.presence.rules import Cutoffs, Status
from tenants.models import Group, Role, Tenant, User
from tenants.names import validate_name

SYSTEM = KeyTransform("system_info", "connectivity__connection_info")
SORTS: dict[str, tuple[F | KeyTextTransform, ...]] = {
    "name": (F("name"),),
    "tenant": (F("tenant__name"), F("group__organisation__name"), F("group__name")),
    "platform": (KeyTextTransform("platform", SYSTEM),),
    "version": (F("connectivity__agent_version"),),
    "seen": (F("connectivity__last_seen_online"),),
}


class GroupChoice(forms.ModelChoiceField):
    def label_from_instance(self, group: Group) -> str:
        return f"{group.tenant.name} / {group.organisation.name} / {group.name}"


class SelectOfTenant(forms.Select):
    """Names the tenant of each option, so that the page offers those of the chosen tenant only."""

    def __init__(self) -> None:
        super().__init__(attrs={"data-narrowed-by": "tenant"})

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option: dict[str, Any] = super().create_option(name, value, *args, **kwargs)
        if instance := getattr(value, "instance", None):
            option["attrs"]["data-tenant"] = str(instance.tenant_id)
        return option


class FleetFilters(forms.Form):
    """The fleet page's query string."""

    q = forms.CharField(required=False, max_length=200)
    status = forms.ChoiceField(required=False, choices=[(each, each) for each in Status])
    tenant = forms.ModelChoiceField(Tenant.objects.none(), required=False)
    group = GroupChoice(
        Group.objects.none(), required=False, empty_label="All groups", widget=SelectOfTenant
    )
    sort = forms.ChoiceField(
        required=False, choices=[(key, key) for name in SORTS for key in (name, f"-{name}")]
    )

    def __init__(self, data: Any, person: User) -> None:
        super().__init__(data)
        self.person = person
        # Why no device can have all that is asked for.
        self.contradiction = ""
        groups = Group.objects.visible_to(person).select_related("tenant", "organisation")
        tenants = Tenant.objects.visible_to(person)
        self.fields["tenant"].queryset = tenants  # type: ignore[attr-defined]
        self.fields["group"].queryset = groups.order_by(  # type: ignore[attr-defined]
            "tenant__name", "organisation__name", "name"
        )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        tenant, group = data.get("tenant"), data.get("group")
        if tenant and group and group.tenant_id != tenant.pk:
            self.contradiction = (
                f"The group {group.organisation.name} / {group.name} belongs to "
                f"{group.tenant.name}, not to {tenant.name}."
            )
            self.add_error("group", self.contradiction)
        return data

    def matching(self) -> DeviceQuerySet:
        """The devices that all filters but the status leave; none where a value makes no sense."""
        devices = Device.objects.visible_to(self.person)
        if not self.is_valid():
            return devices.none()
        if tenant := self.cleaned_data["tenant"]:
            devices = devices.filter(tenant=tenant)
        if group := self.cleaned_data["group"]:
            devices = devices.filter(group=group)
        if term := self.cleaned_data["q"]:
            hostname = "connectivity__connection_info__system_info__hostname__icontains"
            devices = devices.filter(
                Q(name__icontains=term) | Q(uuid__icontains=term) | Q(**{hostname: term})
            )
        return devices

    def narrowed_and_sorted(self, devices: DeviceQuerySet, cutoffs: Cutoffs) -> DeviceQuerySet:
        """`devices` of the status asked for, in the order asked for."""
        if not self.is_valid():
            return devices
        if status := self.cleaned_data["status"]:
            devices = devices.with_status(Status(status), cutoffs)
        key = self.cleaned_data["sort"] or "name"
        fields = SORTS[key.lstrip("-")]
        order = [
            field.desc(nulls_last=True) if key.startswith("-") else field.asc(nulls_last=True)
            for field in fields
        ]
        return devices.order_by(*order, "uuid")

    @property
    def active(self) -> bool:
        return any(self.data.get(name) for name in ("q", "status", "tenant", "group"))


class ShallowJson(json.JSONDecoder):
    """JSON that is nested too deeply to be read is the writer's mistake, not ours."""

    def decode(self, text: str, *args: Any) -> Any:
        try:
            return super().decode(text, *args)
        except (ValueError, RecursionError) as error:
            raise json.JSONDecodeError(str(error), text, 0) from error


class JsonField(forms.JSONField):
    """A JSON value typed by a person, of one Python type."""

    def __init__(self, kind: type, description: str, **options: Any) -> None:
        self.kind = kind
        self.description = description
        super().__init__(decoder=ShallowJson, **options)

    def to_python(self, value: Any) -> Any:
        try:
            parsed = super().to_python(value)
        except forms.ValidationError as error:
            raise forms.ValidationError(f"This is not valid JSON: {value[:60]}") from error
        if parsed is not None and not isinstance(parsed, self.kind):
            raise forms.ValidationError(f"This must be {self.description}.")
        try:
            json_values.check(parsed)
        except UnfitJson as error:
            raise forms.ValidationError(str(error)) from error
        return parsed

    def prepare_value(self, value: Any) -> Any:
        return "" if value is None else super().prepare_value(value)


class ListField(JsonField):
    """An array, as JSON or as words between commas."""

    def __init__(self, **options: Any) -> None:
        super().__init__(list, "a JSON array", widget=forms.TextInput, **options)

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str) and value.strip() and not value.lstrip().startswith("["):
            value = json.dumps([word.strip() for word in value.split(",") if word.strip()])
        return super().to_python(value)

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return ", ".join(value)
        return super().prepare_value(value)


class DeadlineField(forms.TypedChoiceField):
    """How long a command may wait for its device; the moment when it no longer does."""

    LENGTHS = (
        (600, "10 minutes"),
        (3600, "an hour"),
        (8 * 3600, "8 hours"),
        (86_400, "a day"),
        (7 * 86_400, "7 days"),
        (30 * 86_400, "30 days"),
    )

    def __init__(self) -> None:
        usual = settings.COMMAND_DEADLINE_SECONDS
        lengths = dict(self.LENGTHS)
        lengths.setdefault(usual, f"{usual} seconds")
        super().__init__(
            choices=sorted(lengths.items()),
            coerce=lambda seconds: timezone.now() + timedelta(seconds=int(seconds)),
            empty_value=None,
            initial=usual,
            required=False,
            label="May wait for",
        )


class CommandForm(forms.Form):
    """A command for one device and its parameters, each a field where the agent describes them.

    `command` is the name; `offer` what the agent said of it, None for one it does not name.
    """

    PREFIX = "parameter-"

    def __init__(self, command: str, offer: Offer | None, data: Any = None) -> None:
        super().__init__(data, auto_id="id_command_%s")
        self.fields["command"] = forms.CharField(max_length=100, initial=command)
        self.fields["deadline"] = DeadlineField()
        self.parameters = offer.parameters if offer else None
        if self.parameters is None:
            self.fields["parameters"] = JsonField(
                dict,
                "a JSON object",
                required=False,
                widget=forms.Textarea(attrs={"rows": 3, "placeholder": "{}", "class": "code"}),
                help_text='A JSON object, for example {"interval": 2}. May stay empty.',
            )
        for parameter in self.parameters or ():
            self.fields[self.PREFIX + parameter.name] = field_for(parameter)

    @property
    def parameter_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name not in ("command", "deadline")]

    def parameter_values(self) -> dict[str, Any]:
        """The parameters as the device shall get them; what was left empty is left out."""
        if self.parameters is None:
            return self.cleaned_data["parameters"] or {}
        values = {each.name: self.cleaned_data[self.PREFIX + each.name] for each in self.parameters}
        return {name: value for name, value in values.items() if value not in (None, "", [])}


def field_for(parameter: Parameter) -> forms.Field:
    """The form field that reads a value of the parameter's type."""
    options: dict[str, Any] = {
        "required": parameter.required,
        "label": parameter.name,
        "help_text": parameter.description,
        "initial": parameter.default,
    }
    if parameter.choices:
        return _choice_field(parameter, options)
    limits = {"min_value": parameter.minimum, "max_value": parameter.maximum}
    match parameter.type:
        case "boolean" | "bool":
            return forms.BooleanField(**options | {"required": False})
        case "integer" | "int":
            return forms.IntegerField(**options | limits)
        case "number" | "float":
            return forms.FloatField(**options | limits)
        case "list" | "array":
            return ListField(**options)
        case "object" | "dict" | "json":
            widget = forms.Textarea(attrs={"rows": 3, "class": "code"})
            return JsonField(dict, "a JSON object", widget=widget, **options)
    return forms.CharField(**options)


def _choice_field(parameter: Parameter, options: dict[str, Any]) -> forms.Field:
    values = {str(choice): choice for choice in parameter.choices}
    choices = [(text, text) for text in values]
    if parameter.type in ("list", "array"):
        return forms.TypedMultipleChoiceField(
            choices=choices,
            coerce=values.__getitem__,
            widget=forms.CheckboxSelectMultiple,
            **options,
        )
    if not parameter.required:
        choices.insert(0, ("", "—"))
    return forms.TypedChoiceField(
        choices=choices, coerce=values.__getitem__, empty_value=None, **options
    )


class AddDeviceForm(forms.Form):
    """An enrolment key for new devices of one group, by someone who is admin of its tenant."""

    LIFETIMES = (("1", "one day"), ("7", "seven days"), ("30", "thirty days"), ("", "for ever"))

    group = GroupChoice(Group.objects.none(), empty_label=None)
    name = forms.CharField(
        label="Name of the key",
        max_length=100,
        validators=[validate_name],
        initial="Added in the browser",
        help_text="So that you can tell later what it was for.",
    )
    max_uses = forms.IntegerField(
        label="Devices",
        min_value=1,
        max_value=100_000,
        initial=1,
        required=False,
        help_text="How many devices may enrol with it. Empty: any number.",
    )
    lifetime = forms.ChoiceField(label="Usable for", choices=LIFETIMES, initial="1", required=False)

    def __init__(self, person: User, data: Any = None, initial: Any = None) -> None:
        super().__init__(data, initial=initial)
        self.fields["group"].queryset = (  # type: ignore[attr-defined]
            Group.objects.visible_to(person, Role.ADMIN)
            .select_related("tenant", "organisation")
            .order_by("tenant__name", "organisation__name", "name")
        )

    def key_options(self) -> dict[str, Any]:
        """What `create_enrollment_key` takes besides the group and the author."""
        days = self.cleaned_data["lifetime"]
        return {
            "name": self.cleaned_data["name"],
            "max_uses": self.cleaned_data["max_uses"],
            "expires_at": timezone.now() + timedelta(days=int(days)) if days else None,
        }
