"""The base class of every resource below /api/."""

from typing import Any, ClassVar, Generic, TypeVar, cast

from django.db.models import Model
from rest_framework.authentication import SessionAuthentication
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from tenants.api.base.authentication import PersonTokenAuthentication
from tenants.api.base.filters import (
    FilterSetBackend,
    Ordering,
    Search,
    refuse_unknown_parameters,
)
from tenants.api.base.pagination import CursorPages
from tenants.api.base.permissions import HasTenantRole, needed_role, person_of, reachable
from tenants.models import Role, User

Row = TypeVar("Row", bound=Model)


class ListViewSet(ListModelMixin, GenericViewSet[Row], Generic[Row]):
    """List the rows of one model that the caller may see."""

    authentication_classes = [PersonTokenAuthentication, SessionAuthentication]
    permission_classes = [HasTenantRole]
    filter_backends = [FilterSetBackend, Search, Ordering]
    pagination_class = CursorPages
    # A row is changed by PATCH: PUT would need all fields, and lose what others have just changed.
    http_method_names = ["get", "head", "post", "patch", "delete"]
    lookup_field = "uuid"
    lookup_value_converter = "uuid"

    # Whether no cache may keep an answer, since it has secrets or says who did what.
    no_store: ClassVar[bool] = False
    # Whether staff who manage the platform reach the rows of every tenant.
    managed: ClassVar[bool] = False
    roles: ClassVar[dict[str, Role]] = {}
    # Columns that cannot be null; the primary key is added to each, so that no two rows are equal.
    ordering_fields: ClassVar[tuple[str, ...]] = ("name",)
    ordering: ClassVar[str] = "name"
    search_fields: ClassVar[tuple[str, ...]] = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        refuse_unknown_parameters(request, self.query_parameters())

    def finalize_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().finalize_response(*args, **kwargs)
        if self.no_store:
            response["Cache-Control"] = "no-store"
        return response

    def query_parameters(self) -> set[str]:
        """Return the query parameters of this action."""
        if self.action != "list":
            return set()
        own = {"limit", "cursor", "ordering", *(["search"] if self.search_fields else [])}
        return own | FilterSetBackend().parameters(self.request, self)

    def get_queryset(self) -> Any:
        """Return the rows that the caller may see, or may act on in a list of a higher role."""
        model = cast(Any, self).queryset.model
        role = Role.VIEWER if self.detail else needed_role(self.request, self)
        return reachable(model, self.request, self, role)

    def filter_queryset(self, queryset: Any) -> Any:
        """Filter lists only: REST framework would filter single rows as well."""
        return queryset if self.detail else super().filter_queryset(queryset)

    @property
    def person(self) -> User:
        return person_of(self.request)


class ResourceViewSet(RetrieveModelMixin, ListViewSet[Row], Generic[Row]):
    """List and show the rows of one model that the caller may see.

    A resource that writes adds REST framework's mixins; its `perform_create`, `perform_update` and
    `perform_destroy` call an action, and `perform_create` sets `serializer.instance`.
    """
