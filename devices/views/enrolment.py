from pathlib import Path

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_safe

from devices.forms import AddDeviceForm
from devices.views.page import PersonRequest, page
from natsbridge.server_config import travels_in_clear
from tenants.actions import create_enrollment_key
from tenants.models import Group, Role

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
    context = {
        "group": group,
        "key": key,
        "plain": plain,
        "public_url": settings.PUBLIC_URL,
        "websockets": any(url.startswith("ws") for url in settings.AGENT_NATS_URL.split(",")),
        "unencrypted": travels_in_clear(settings.PUBLIC_URL),
    }
    return render(request, "devices/device_added.html", context)


@require_safe
def download_agent(request: HttpRequest) -> FileResponse:
    """The agent, for anyone: it holds no secret."""
    return FileResponse(AGENT.open("rb"), as_attachment=True, content_type="text/x-python")
