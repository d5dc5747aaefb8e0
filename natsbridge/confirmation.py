"""What people are asked before something is done, on pages and in the admin."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from django import forms


@dataclass(frozen=True)
class Confirmation:
    """A question with its button and form; the admin says `done` afterwards."""

    title: str
    text: str
    button: str
    form: Callable[..., forms.Form] = forms.Form
    done: str = ""
    dangerous: bool = True

    def with_form(self, form: Callable[..., forms.Form]) -> Self:
        return replace(self, form=form)

    def about(self, name: str) -> Self:
        """Name in the title what it is about."""
        return replace(self, title=self.title.format(name))
