"""Revoke, reinstate and rotate a device's access, from its page and from the list."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import action
from unfold.enums import ActionVariant

from devices.enrolment import credentials
from devices.forms.confirmations import DELETE, REINSTATE, REVOKE, ROTATE
from devices.models import Device
from natsbridge.admin.base import label, moment
from tenants.admin.confirming import confirm, confirm_for_many
from tenants.admin.credentials import credential_table
from tenants.admin.writing import person_of

CREDENTIALS_SHOWN = 5
COMMANDED = 100


class RevokedFilter(DropdownFilter):
    title = "access"
    parameter_name = "revoked"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        return [("yes", "Revoked"), ("no", "Not revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Device]) -> QuerySet[Device]:
        if self.value() not in ("yes", "no"):
            return queryset
        return queryset.filter(revoked_at__isnull=self.value() == "no")


class AccessAdmin(ModelAdmin):
    """The part of DeviceAdmin for access; it needs the permission to change devices."""

    actions = ("command_selected", "revoke_selected", "delete_with_reason")
    actions_detail: tuple[str, ...] = ("revoke", "reinstate", "rotate")

    def has_control_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("devices.change_device")

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Return the actions that apply to the device in its present state."""
        offered = super().get_actions_detail(request, object_id)
        revoked = Device.objects.filter(pk=object_id).exclude(revoked_at=None).exists()
        inapplicable = ("revoke", "rotate") if revoked else ("reinstate",)
        names = {f"devices_device_{name}" for name in inapplicable}
        return [each for each in offered if each.action_name not in names]

    @action(
        description="Revoke", permissions=["control"], icon="block", variant=ActionVariant.DANGER
    )
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        device = get_object_or_404(Device, pk=object_id)
        return confirm(self, request, device, REVOKE, lambda form: _revoke(request, device, form))

    @action(description="Reinstate", permissions=["control"], icon="undo")
    def reinstate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        device = get_object_or_404(Device, pk=object_id)

        def act(form: forms.Form) -> None:
            credentials.reinstate_device(device, by=person_of(request))

        return confirm(self, request, device, REINSTATE, act)

    @action(description="Rotate credential", permissions=["control"], icon="autorenew")
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        device = get_object_or_404(Device, pk=object_id)

        def act(form: forms.Form) -> None:
            overlap = form.cleaned_data["overlap"]
            credentials.rotate_device(device, by=person_of(request), overlap=overlap)

        return confirm(self, request, device, ROTATE, act)

    @action(description="Send a command to selected devices", permissions=["view"])
    def command_selected(
        self, request: HttpRequest, queryset: QuerySet[Device]
    ) -> HttpResponse | None:
        """Open the page for bulk commands with these devices, as many as fit into its URL."""
        chosen = [str(each) for each in queryset.values_list("pk", flat=True)[: COMMANDED + 1]]
        if len(chosen) > COMMANDED:
            self.message_user(
                request, f"At most {COMMANDED} devices; choose a group there instead.", "error"
            )
            return None
        return redirect(reverse("bulk-new") + f"?target=devices&devices={','.join(chosen)}")

    @action(description="Revoke selected devices", permissions=["control"])
    def revoke_selected(
        self, request: HttpRequest, queryset: QuerySet[Device]
    ) -> HttpResponse | None:
        return confirm_for_many(
            self,
            request,
            queryset,
            REVOKE,
            lambda device, form: _revoke(request, device, form),
            action="revoke_selected",
        )

    @action(description="Delete selected devices", permissions=["delete"])
    def delete_with_reason(
        self, request: HttpRequest, queryset: QuerySet[Device]
    ) -> HttpResponse | None:
        def act(device: Device, form: forms.Form) -> None:
            reason = form.cleaned_data["reason"]
            credentials.delete_devices([device], by=person_of(request), reason=reason)

        return confirm_for_many(self, request, queryset, DELETE, act, action="delete_with_reason")

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        found: dict[str, Any] = super().get_actions(request)
        # `delete_with_reason` replaces it.
        found.pop("delete_selected", None)
        return found

    def delete_model(self, request: HttpRequest, obj: Device) -> None:
        credentials.delete_devices([obj], by=person_of(request))

    @admin.display(description="Access")
    def access(self, device: Device) -> SafeString:
        """Return the state of access as a label, for the list."""
        if device.archived_at is not None:
            return label("Archived", "danger")
        if device.revoked_at is not None:
            return label("Revoked", "danger")
        return label("Suspended", "danger") if device.tenant.suspended_at else label("Open", "")

    @admin.display(description="Access")
    def access_and_why(self, device: Device) -> SafeString:
        if device.revoked_at is not None:
            return format_html("{} {}", self.access(device), revocation(device))
        if device.tenant.suspended_at is not None:
            return format_html("{} with its tenant", self.access(device))
        return self.access(device)

    @admin.display(description="Credentials")
    def credentials(self, device: Device) -> SafeString:
        rows = device.tenant.credentials.filter(device_uuid=device.pk)
        shown = rows.select_related("issued_by")[:CREDENTIALS_SHOWN]
        return credential_table(shown, device.pk)


def revocation(device: Device) -> str:
    by = device.revoked_by_name or "the platform"
    return f"{moment(device.revoked_at)} by {by}: {device.revoked_reason or 'no reason given'}"


def _revoke(request: HttpRequest, device: Device, form: Any) -> None:
    by = person_of(request)
    credentials.revoke_device(device, by=by, reason=form.cleaned_data["reason"])
