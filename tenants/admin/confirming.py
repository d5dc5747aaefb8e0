"""Confirmation pages of the admin: what will happen, a form, then the action."""

from collections.abc import Callable, Sequence
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from natsbridge.confirmation import Confirmation
from tenants.errors import TenantsError

# How many of the selected rows are named.
NAMED = 20


def confirm(
    model_admin: ModelAdmin,
    request: HttpRequest,
    row: Model,
    confirmation: Confirmation,
    act: Callable[[Any], HttpResponse | None],
) -> HttpResponse:
    """Ask about one row, on its page. `act` gets the form, and may return the answer."""
    page = reverse(admin_name(row, "change"), args=[row.pk])
    form = confirmation.form(request.POST) if request.method == "POST" else confirmation.form()
    if form.is_bound and form.is_valid():
        try:
            answer = act(form)
        except TenantsError as error:
            form.add_error(None, str(error))
        else:
            model_admin.log_change(request, row, confirmation.done)
            if answer is None:
                model_admin.message_user(request, confirmation.done, messages.SUCCESS)
            return answer or redirect(page)
    return _render(model_admin, request, confirmation.about(str(row)), form, back=page, rows=[row])


def confirm_for_many(
    model_admin: ModelAdmin,
    request: HttpRequest,
    rows: QuerySet[Any],
    confirmation: Confirmation,
    act: Callable[[Any, Any], None],
    *,
    action: str,
) -> HttpResponse | None:
    """Ask about the rows selected in a list. `act` gets each of them with the form."""
    confirmed = "confirmed" in request.POST
    form = confirmation.form(request.POST) if confirmed else confirmation.form()
    if form.is_bound and form.is_valid():
        done = 0
        for row in rows:
            try:
                act(row, form)
            except TenantsError as error:
                model_admin.message_user(request, f"{row}: {error}", messages.ERROR)
            else:
                model_admin.log_change(request, row, confirmation.done)
                done += 1
        if done:
            model_admin.message_user(request, f"{confirmation.done} ({done})", messages.SUCCESS)
        return None
    selected = request.POST.getlist(ACTION_CHECKBOX_NAME)
    hidden = {"action": action, "select_across": request.POST.get("select_across", "0")}
    return _render(
        model_admin,
        request,
        confirmation.about(f"the selected {rows.model._meta.verbose_name_plural}"),
        form,
        back=request.get_full_path(),
        rows=list(rows[: NAMED + 1]),
        count=rows.count(),
        selected=selected,
        hidden={**hidden, "confirmed": "yes"},
    )


def _render(
    model_admin: ModelAdmin,
    request: HttpRequest,
    confirmation: Confirmation,
    form: forms.Form,
    *,
    back: str,
    rows: Sequence[Model],
    **more: Any,
) -> HttpResponse:
    for field in form.fields.values():
        _dress(field)
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": confirmation.title,
        "confirmation": confirmation,
        "form": form,
        "rows": rows[:NAMED],
        "count": len(rows),
        "back": back,
        **more,
    }
    return TemplateResponse(request, "admin/confirmation.html", context)


def _dress(field: forms.Field) -> None:
    """Give the field the widget of the admin's other pages."""
    widget = field.widget
    if isinstance(widget, forms.Select):
        field.widget = UnfoldAdminSelectWidget(choices=widget.choices)
    elif isinstance(widget, forms.TextInput):
        field.widget = UnfoldAdminTextInputWidget(attrs=widget.attrs)
    field.widget.is_required = field.required


def admin_name(row: Model, view: str) -> str:
    return f"admin:{row._meta.app_label}_{row._meta.model_name}_{view}"
