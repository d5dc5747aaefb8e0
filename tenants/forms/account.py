"""Forms on the page of one's own account."""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib.auth import authenticate, password_validation
from django.contrib.auth.forms import PasswordChangeForm
from django.http import HttpRequest
from django.utils import timezone

from tenants.actions import powers
from tenants.models import Role, User
from tenants.names import validate_name

NEVER = "never"


class OwnPasswordForm(PasswordChangeForm):
    """Checks the old password as the login page does, so guesses are locked and recorded."""

    def __init__(self, request: HttpRequest, user: User, *args: Any) -> None:
        super().__init__(user, *args)
        self._request = request
        rules = password_validation.password_validators_help_texts()
        self.fields["new_password1"].help_text = " ".join(rules)
        self.fields["new_password2"].help_text = ""

    def clean_old_password(self) -> str:
        old: str = self.cleaned_data["old_password"]
        if authenticate(self._request, username=self.user.get_username(), password=old) is None:
            raise forms.ValidationError("This is not your password.", code="password_incorrect")
        return old

    def changed_person(self) -> User:
        """Return the person with the new password, for an action to save."""
        person: User = self.save(commit=False)
        return person


class TokenForm(forms.Form):
    """A new API token of one's own, with no more rights than one has."""

    name = forms.CharField(
        max_length=100,
        validators=[validate_name],
        help_text="What the token is for, such as the script that will use it.",
    )
    role = forms.ChoiceField(
        help_text="What the token may do at most. In each tenant it may do no more than you."
    )
    days = forms.ChoiceField(
        label="Expires",
        choices=[
            ("7", "in 7 days"),
            ("30", "in 30 days"),
            ("90", "in 90 days"),
            ("365", "in a year"),
            (NEVER, "never"),
        ],
        initial="90",
    )

    def __init__(self, person: User, *args: Any) -> None:
        super().__init__(*args)
        most = powers.highest_role(person)
        choices = [(role.value, role.label) for role in Role if most.includes(role)]
        self.fields["role"].choices = choices  # type: ignore[attr-defined]

    def options(self) -> dict[str, Any]:
        """Return the arguments of `create_api_token`, except for the owner."""
        given = self.cleaned_data
        return {
            "name": given["name"],
            "role": Role(given["role"]),
            "expires_at": _in_days(given["days"]),
        }


def _in_days(days: str) -> datetime | None:
    return None if days == NEVER else timezone.now() + timedelta(days=int(days))
