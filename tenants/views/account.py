"""The page of one's own account, and of nobody else's: password, API tokens, sessions."""

from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from django import forms
from django.contrib.auth import update_session_auth_hash
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import (
    require_GET,
    require_http_methods,
    require_POST,
    require_safe,
)

from natsbridge.confirmation import Confirmation
from tenants.actions import web_sessions
from tenants.actions.keys import create_api_token, revoke_api_token
from tenants.actions.one_time_secrets import reveal_secret, store_secret
from tenants.actions.people import change_person
from tenants.actions.web_sessions import end_other_sessions
from tenants.forms.account import OwnPasswordForm, TokenForm
from tenants.models import ApiToken
from tenants.views.confirmation import confirm
from tenants.views.one_time import secret_gone
from tenants.views.page import PersonRequest, page

PER_PAGE = 10
DONE = {
    "password": "Your password has been changed, and your other sessions have ended.",
    "token": "The API token has been revoked.",
    "session": "The session has ended.",
    "sessions": "All your other sessions have ended.",
}

PASSWORD = Confirmation(
    "Change your password",
    "Your other sessions end; this one and your API tokens stay valid.",
    "Change the password",
    dangerous=False,
)
NEW_TOKEN = Confirmation(
    "New API token",
    "A script calls the API with it, in your name. The next page shows it, once.",
    "Create the API token",
    dangerous=False,
)
REVOKE_TOKEN = Confirmation(
    "Revoke the API token {}",
    "Scripts that use it are refused at once. This cannot be undone.",
    "Revoke the API token",
)


@page
@require_safe
def account(request: PersonRequest) -> HttpResponse:
    tokens = request.user.auth_token_set.order_by("-created")
    sessions = request.user.web_sessions.alive()
    context = {
        "done": DONE.get(request.GET.get("done", "")),
        "roles": request.user.memberships.select_related("tenant").order_by("tenant__name"),
        "tokens": Paginator(tokens, PER_PAGE).get_page(request.GET.get("tokens")),
        "sessions": Paginator(sessions, PER_PAGE).get_page(request.GET.get("sessions")),
        "here": request.session.session_key,
        "now": timezone.now(),
    }
    return render(request, "account/account.html", context)


@sensitive_post_parameters()
@page
@require_http_methods(["GET", "HEAD", "POST"])
def password(request: PersonRequest) -> HttpResponse:
    def do(form: Any) -> HttpResponse:
        person = form.changed_person()
        key = request.session.session_key or ""
        change_person(person, by=person, keep_session=key)
        update_session_auth_hash(request, person)
        return _done("password")

    form = partial(OwnPasswordForm, request, request.user)
    return confirm(request, replace(PASSWORD, form=form), do, **_way_back())


@page
@sensitive_variables("plain")
@require_http_methods(["GET", "HEAD", "POST"])
def new_token(request: PersonRequest) -> HttpResponse:
    def do(form: Any) -> HttpResponse:
        person = request.user
        made, plain = create_api_token(person, by=person, **form.options())
        return redirect("account-token", store_secret(plain, made, to=person))

    form = partial(TokenForm, request.user)
    return confirm(request, replace(NEW_TOKEN, form=form), do, **_way_back())


@page
@sensitive_variables("revealed", "context")
@require_GET
def token(request: PersonRequest, secret_id: UUID) -> HttpResponse:
    revealed = reveal_secret(secret_id, ApiToken, to=request.user)
    if revealed is None:
        return secret_gone(request, **_way_back())
    made = get_object_or_404(request.user.auth_token_set, pk=revealed.row_id)
    context = {"token": made, "secret": revealed.secret, "label": "API token"}
    return render(request, "account/token.html", context)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def revoke_token(request: PersonRequest, digest: str) -> HttpResponse:
    own = get_object_or_404(request.user.auth_token_set, pk=digest)

    def do(form: forms.Form) -> HttpResponse:
        revoke_api_token(own, by=request.user)
        return _done("token")

    return confirm(request, REVOKE_TOKEN.about(own.name), do, **_way_back())


@page
@require_POST
def end_session(request: PersonRequest, number: int) -> HttpResponse:
    own = request.user.web_sessions.exclude(session_key=request.session.session_key)
    web_sessions.end_session(get_object_or_404(own, pk=number), by=request.user)
    return _done("session")


@page
@require_POST
def end_others(request: PersonRequest) -> HttpResponse:
    key = request.session.session_key or ""
    end_other_sessions(request.user, keep=key, by=request.user)
    return _done("sessions")


def _way_back() -> dict[str, Any]:
    back = reverse("account")
    return {"back": back, "crumbs": [(back, "Your account")]}


def _done(what: str) -> HttpResponse:
    return redirect(f"{reverse('account')}?done={what}")
