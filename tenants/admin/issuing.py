"""Rows with a secret that is shown once, on the page to which a redirect leads."""

from typing import Any, cast
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.cache import add_never_cache_headers
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET
from unfold.admin import ModelAdmin

from tenants.actions.one_time_secrets import reveal_secret, store_secret
from tenants.admin.writing import person_of


class SecretAdmin(ModelAdmin):
    """Shows the secret of a new `issued_model` once: post, redirect, show."""

    issued_model: type[Model]
    issued_title: str

    def worth_copying(self, row: Any) -> dict[str, str]:
        """Return by name what else is needed together with the secret."""
        return {}

    def secret_context(self, row: Any) -> dict[str, Any]:
        """Return what else the page shows."""
        return {}

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_GET(self.secret_view))
        own = path("secret/<uuid:secret_id>/", view, name=self._secret_name)
        return [own, *super().get_urls()]

    def to_secret(self, request: HttpRequest, row: Model, secret: str) -> HttpResponseRedirect:
        return redirect(
            f"admin:{self._secret_name}", store_secret(secret, row, to=person_of(request))
        )

    @sensitive_variables("revealed", "context")
    def secret_view(self, request: HttpRequest, secret_id: UUID) -> HttpResponse:
        if not self.has_module_permission(request):
            raise PermissionDenied
        revealed = reveal_secret(secret_id, self.issued_model, to=person_of(request))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": self.issued_title,
        }
        if revealed is not None:
            row = get_object_or_404(self.issued_model._default_manager, pk=revealed.row_id)
            context |= {"row": row, "secret": revealed.secret} | self.secret_context(row)
            context["worth_copying"] = self.worth_copying(row)
        answer = TemplateResponse(
            request, "admin/issued_secret.html", context, status=200 if revealed else 410
        )
        add_never_cache_headers(answer)
        return answer

    @property
    def _secret_name(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_secret"


class IssuingRequest(HttpRequest):
    """A request on its way from `save_model` to `response_add`."""

    issued_secret: str


class IssuingAdmin(SecretAdmin):
    """Rows that an action creates, and that cannot be edited afterwards."""

    def issue(self, request: HttpRequest, draft: Any) -> tuple[Model, str]:
        """Create what `draft` describes, and return the row and its secret in plain text."""
        raise NotImplementedError

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
        return self.to_secret(request, obj, cast(IssuingRequest, request).issued_secret)
