"""The form of a command to one device."""

from typing import Any

from django import forms

from devices.commands.rules.capabilities import Capability
from devices.forms.fields import DeadlineField, JsonField, field_for


class CommandForm(forms.Form):
    """A command's name, deadline and parameters; each described parameter is a field.

    `capability` is the agent's description of the command, None if the agent does not name it.
    """

    PREFIX = "parameter-"

    def __init__(self, command: str, capability: Capability | None, data: Any = None) -> None:
        super().__init__(data, auto_id="id_command_%s")
        self.fields["command"] = forms.CharField(max_length=100, initial=command)
        self.fields["deadline"] = DeadlineField()
        self.parameters = capability.parameters if capability else None
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
        """Return the parameters to send, without those left empty."""
        if self.parameters is None:
            return self.cleaned_data["parameters"] or {}
        values = {each.name: self.cleaned_data[self.PREFIX + each.name] for each in self.parameters}
        return {name: value for name, value in values.items() if value not in (None, "", [])}
