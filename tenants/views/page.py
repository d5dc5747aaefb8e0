"""What every page needs: a person who is logged in, and whether htmx asks for a fragment."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from urllib.parse import urlsplit

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import add_never_cache_headers, patch_vary_headers

from tenants.models import Role, Tenant, User, has_role

P = ParamSpec("P")


class PersonRequest(HttpRequest):
    """A request of somebody who is logged in."""

    user: User


def page(
    view: Callable[Concatenate[PersonRequest, P], HttpResponseBase],
) -> Callable[Concatenate[Any, P], HttpResponseBase]:
    """Serve a view to people who are logged in, and let no cache store what it returns."""

    @wraps(view)
    def answer(request: Any, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _to_login(request)
        response = view(request, *args, **kwargs)
        add_never_cache_headers(response)
        patch_vary_headers(response, ["HX-Request"])
        return response

    return answer


def navigation(request: HttpRequest) -> dict[str, Any]:
    """Return what the navigation of every page asks, as functions: unasked, they cost nothing."""
    return {
        "may_audit": lambda: Tenant.objects.visible_to(
            request.user, Role.ADMIN, reading=True
        ).exists(),
        "may_issue": lambda: Tenant.objects.visible_to(request.user, Role.OPERATOR).exists(),
    }


def wants_fragment(request: HttpRequest) -> bool:
    return request.headers.get("HX-Request") == "true"


def require_admin(request: PersonRequest, tenant: Tenant) -> None:
    if not has_role(request.user, tenant.pk, Role.ADMIN):
        raise PermissionDenied("This needs the role admin in this tenant.")


def _to_login(request: HttpRequest) -> HttpResponse:
    if not wants_fragment(request):
        return redirect_to_login(request.get_full_path())
    # A redirect would put the login page into the fragment's place.
    target = redirect_to_login(_current_path(request))
    return HttpResponse(status=401, headers={"HX-Redirect": target["Location"]})


def _current_path(request: HttpRequest) -> str:
    """Return the path of the page that the browser shows, as htmx reports it."""
    try:
        current = urlsplit(request.headers.get("HX-Current-URL", ""))
    except ValueError:
        return "/"
    path = "/" + current.path.lstrip("/")
    return f"{path}?{current.query}" if current.query else path
