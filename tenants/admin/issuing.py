"""Rows that carry a secret: it is shown once, in the answer to the request that made them."""

from typing import Any, cast

from django.db.models import Model
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin


class IssuingRequest(HttpRequest):
    """A request on its way from `save_model` to `response_add`."""

    issued_secret: str


class IssuingAdmin(ModelAdmin):
    """Rows are made by an action and not edited afterwards."""

    issued_title: str

    def issue(self, request: HttpRequest, draft: Any) -> tuple[Model, str]:
        """What `draft` says, made by an action: the row and its secret in plain text."""
        raise NotImplementedError

    def worth_copying(self, row: Any) -> dict[str, str]:
        """What else, by its name, is needed together with the secret."""
        return {}

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        only_save = {"show_save_and_continue": False, "show_save_and_add_another": False}
        return super().add_view(request, form_url, {**only_save, **(extra_context or {})})

    def save_model(self, request: HttpRequest, obj: Model, form: ModelForm, change: bool) -> None:
        row, secret = self.issue(request, obj)
        obj.pk = row.pk
        obj.refresh_from_db()
        cast(IssuingRequest, request).issued_secret = secret

    def response_add(
        self, request: HttpRequest, obj: Model, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The page itself and no redirect to it: so the secret is stored nowhere on its way."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": self.issued_title,
            "row": obj,
            "secret": cast(IssuingRequest, request).issued_secret,
            "worth_copying": self.worth_copying(obj),
        }
        return TemplateResponse(request, "admin/issued_secret.html", context)
