"""Share parts among all inlines of a device's page."""

from django.db.models import Model
from django.http import HttpRequest


class PartOfDevice:
    """Data from the agent, shown to everybody who may see the device and changed by nobody."""

    extra = 0
    can_delete = False
    tab = True

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may_see(request)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def may_see(request: HttpRequest) -> bool:
    return request.user.has_perm("devices.view_device") or request.user.has_perm(
        "devices.change_device"
    )
