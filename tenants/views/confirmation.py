"""A page that asks before something is done."""

from collections.abc import Callable
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render

from natsbridge.confirmation import Confirmation
from tenants.errors import TenantsError
from tenants.views.page import PersonRequest


def confirm(
    request: PersonRequest,
    confirmation: Confirmation,
    do: Callable[[Any], HttpResponse],
    **context: Any,
) -> HttpResponse:
    """Ask with a form (GET), then return what `do` answers (POST).

    The form comes back with what was wrong with it (422), or why the deed was refused (409).
    """
    form = confirmation.form(request.POST) if request.method == "POST" else confirmation.form()
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
