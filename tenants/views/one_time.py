"""The answer to somebody who opens the page of a new secret a second time."""

from django.http import HttpResponse
from django.shortcuts import render

from tenants.models.one_time import LIFETIME
from tenants.views.page import PersonRequest


def secret_gone(
    request: PersonRequest, *, crumbs: list[tuple[str, str]], back: str
) -> HttpResponse:
    """Say that a secret is shown once, and lead to `back`, where a new one is made."""
    minutes = int(LIFETIME.total_seconds() // 60)
    context = {"crumbs": crumbs, "back": back, "minutes": minutes}
    return render(request, "tenants/secret_gone.html", context, status=410)
