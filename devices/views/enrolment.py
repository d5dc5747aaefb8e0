from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods, require_safe

from devices.forms.enrolment import AddDeviceForm
from natsbridge.server.config import travels_in_clear
from tenants.actions.keys import create_enrollment_key
from tenants.actions.one_time_secrets import reveal_secret, store_secret
from tenants.models import EnrollmentKey, Group, Role
from tenants.views.one_time import secret_gone
from tenants.views.page import PersonRequest, page

AGENT = Path(__file__).parents[1] / "agent" / "nats_persistent_agent.py"


@page
@sensitive_variables("plain")
@require_http_methods(["GET", "HEAD", "POST"])
def add_device(request: PersonRequest) -> HttpResponse:
    if not Group.objects.visible_to(request.user, Role.ADMIN).exists():
        raise PermissionDenied("Adding devices needs the role admin in a tenant.")
    if request.method != "POST":
        form = AddDeviceForm(request.user, initial={"group": request.GET.get("group")})
        return render(request, "devices/add_device.html", {"form": form})
    form = AddDeviceForm(request.user, request.POST)
    if not form.is_valid():
        return render(request, "devices/add_device.html", {"form": form}, status=422)
    group = form.cleaned_data["group"]
    key, plain = create_enrollment_key(group, created_by=request.user, **form.key_options())
    return redirect("device-added", store_secret(plain, key, to=request.user))


@page
@sensitive_variables("revealed", "context")
@require_GET
def device_added(request: PersonRequest, secret_id: UUID) -> HttpResponse:
    revealed = reveal_secret(secret_id, EnrollmentKey, to=request.user)
    if revealed is None:
        back = reverse("add-device")
        crumbs = [(reverse("fleet"), "Fleet"), (back, "Add a device")]
        return secret_gone(request, crumbs=crumbs, back=back)
    visible = EnrollmentKey.objects.visible_to(request.user, Role.ADMIN)
    related = visible.select_related("group__tenant", "group__organisation")
    key = get_object_or_404(related, pk=revealed.row_id)
    context = {
        "group": key.group,
        "key": key,
        "plain": revealed.secret,
        "public_url": settings.PUBLIC_URL,
        "websockets": any(url.startswith("ws") for url in settings.AGENT_NATS_URL.split(",")),
        "unencrypted": travels_in_clear(settings.PUBLIC_URL),
    }
    return render(request, "devices/device_added.html", context)


@require_safe
def download_agent(request: HttpRequest) -> FileResponse:
    """Serve the agent to anyone; it contains no secret."""
    return FileResponse(AGENT.open("rb"), as_attachment=True, content_type="text/x-python")
