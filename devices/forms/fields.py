"""Form fields for the values of a command's parameters, and for its deadline."""

import json
from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.utils import timezone

from devices.commands.rules import json_values
from devices.commands.rules.capabilities import Parameter
from devices.errors import UnfitJson


class ShallowJson(json.JSONDecoder):
    """Decode JSON, and report input that is nested too deeply as invalid."""

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
    """An array, written as JSON or as words separated by commas."""

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
    """A choice of how long a command may wait for its device; its value is the deadline."""

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


def field_for(parameter: Parameter) -> forms.Field:
    """Return the form field for a value of the parameter's type."""
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
