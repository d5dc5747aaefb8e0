"""A page that asks before something is done."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import HttpResponse
from django.shortcuts import render

from tenants.errors import TenantsError
from tenants.forms.credentials import ConfirmForm
from tenants.views.page import PersonRequest


@dataclass(frozen=True)
class Confirmation:
    """What is asked before it is done."""

    title: str
    text: str
    button: str
    form: type[forms.Form] = ConfirmForm
    dangerous: bool = True


def confirm(
    request: PersonRequest,
    confirmation: Confirmation,
    do: Callable[[Any], HttpResponse],
    make_form: Callable[..., forms.Form],
    **context: Any,
) -> HttpResponse:
    """Ask with a form (GET), then return what `do` answers (POST).

    The form comes back with what was wrong with it (422), or why the deed was refused (409).
    """
    form = make_form(request.POST) if request.method == "POST" else make_form()
    status = 200
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                return do(form)
            except TenantsError as error:
                form.add_error(None, str(error))
                status = 409
    shown = {"confirmation": confirmation, "form": form, **context}
    return render(request, "confirmation.html", shown, status=status)
