"""Tell the audit what was refused, and what staff read: one place for the API, pages and the admin.

It sees how each request was answered, so a new endpoint is covered without a line.
"""

from collections.abc import Callable
from uuid import UUID

import structlog
from django.apps import apps
from django.contrib.admin.utils import unquote
from django.db import Error as AnyDatabaseError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.urls import ResolverMatch
from django.utils.functional import SimpleLazyObject

from devices.api.authentication import DevicePrincipal, device_caller
from tenants.access import notes
from tenants.access.records import (
    STRANGER,
    Asked,
    Caller,
    person_caller,
    record_refusal,
    record_staff_read,
)
from tenants.api.base.permissions import IsStaff
from tenants.audit.owners import Owned, owner_of, owners_of, tenant_path
from tenants.models import User

log = structlog.get_logger(__name__)

# A field or a filter that names what is another tenant's is answered 400.
REFUSED = (400, 401, 403, 404)
# The routes on which a superuser reads nothing of a customer's.
OWN_ROUTES = ("account/", "api/docs/", "api/schema/", "api/nats/health", "downloads/", "login/")


class AccessAuditMiddleware:
    """Records refusals and what staff read. Without the database the answer stays what it is."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        try:
            _record(request, response.status_code)
        except AnyDatabaseError as error:
            log.warning("an access is not in the audit", error=str(error).strip())
        return response


def caller_of(user: object) -> Caller:
    """Return the caller for a `request.user`."""
    if isinstance(user, DevicePrincipal):
        return device_caller(user.device)
    if isinstance(user, User):
        return person_caller(user)
    return STRANGER


def _record(request: HttpRequest, status: int) -> None:
    match = request.resolver_match
    if status in REFUSED:
        # What has no route is a typing error, and nobody is looked up for it.
        if (match or status in (401, 403)) and not notes.is_recorded(request.META):
            _record_refusal(request, match, status)
    elif status == 200 and match and request.method in ("GET", "HEAD") and _has_user(request):
        _record_read(request, match, status)


def _record_refusal(request: HttpRequest, match: ResolverMatch | None, status: int) -> None:
    caller = notes.noted_caller(request.META) or caller_of(request.user)
    # Whatever strangers name, it is looked up for nobody.
    named = []
    if match and caller != STRANGER:
        sent = notes.uuids_in(list(request.GET.values()))
        named = [*_named(match), *owners_of([*sent, *notes.noted_names(request.META)])]
    record_refusal(caller, Asked(_described(request, match), status, named))


def _record_read(request: HttpRequest, match: ResolverMatch, status: int) -> None:
    person = request.user
    if not isinstance(person, User) or not (person.is_staff or person.is_superuser):
        return
    named = _named(match)
    if named or _lists_customers(match, person):
        record_staff_read(caller_of(person), Asked(_described(request, match), status, named))


def _has_user(request: HttpRequest) -> bool:
    """Return whether the view has asked who is logged in: otherwise nobody's rights opened it, and
    it may have to work without the database."""
    return bool(request.session.accessed) or type(request.user) is not SimpleLazyObject


def _named(match: ResolverMatch) -> list[Owned]:
    """Return the objects that the address names."""
    key = match.kwargs.get("object_id") or match.kwargs.get("id")
    if key and (model := _model(match)):
        found = owner_of(model, unquote(str(key)))
        return [found] if found else []
    return owners_of([each for each in match.kwargs.values() if isinstance(each, UUID)])


def _lists_customers(match: ResolverMatch, person: User) -> bool:
    if "admin" in match.namespaces or _is_for_staff(match):
        model = _model(match)
        return bool(model and tenant_path(model))
    return person.is_superuser and not match.route.startswith(OWN_ROUTES)


def _is_for_staff(match: ResolverMatch) -> bool:
    """Return whether the API answers this address to staff alone, whatever their tenants."""
    wanted = getattr(getattr(match.func, "cls", None), "permission_classes", ())
    return any(issubclass(each, IsStaff) for each in wanted)


def _model(match: ResolverMatch) -> type[Model] | None:
    """Return the model that a resource of the API shows, or a page of the admin, by its name."""
    rows = getattr(getattr(match.func, "cls", None), "queryset", None)
    if isinstance(rows, QuerySet):
        return rows.model
    app, _, rest = (match.url_name or "").partition("_")
    if "admin" not in match.namespaces or not rest:
        return None
    try:
        return apps.get_model(app, rest.partition("_")[0])
    except LookupError:
        return None


def _described(request: HttpRequest, match: ResolverMatch | None) -> str:
    return f"{request.method} /{match.route}" if match else str(request.method)
