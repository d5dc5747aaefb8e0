import time
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from devices.api.nats.devices import DeviceStatusAnswer
from devices.models import Device
from devices.presence.coverage import current_cutoffs, current_pause
from devices.presence.rules import Cutoffs
from devices.telemetry import ring_buffers
from devices.views.parts import details_context, find_device, form_context, history_of
from devices.views.presence import presence_context
from natsbridge.errors import DependencyAway
from tenants.models import FloodBlock
from tenants.views.page import PersonRequest, page

FLOODS_SHOWN_FOR = timedelta(days=1)
# Metric type, heading, unit as in templatetags/presentation.py, and the chart's fixed maximum.
METRICS = (
    ("cpu_percent", "CPU", "percent", 100),
    ("memory_percent", "Memory", "percent", 100),
    ("disk_percent", "Disk", "percent", 100),
    ("network_bytes_in", "Network in", "bytes per second", None),
    ("network_bytes_out", "Network out", "bytes per second", None),
    ("uptime", "Uptime", "seconds", None),
)


@page
@require_safe
def device(request: PersonRequest, device_uuid: UUID) -> HttpResponse:
    found = find_device(request, device_uuid)
    return render_device(request, found, form_context(request, found))


def render_device(
    request: PersonRequest, found: Device, form: dict[str, Any], status: int = 200
) -> HttpResponse:
    """Render the whole page; `form` is a `form_context`."""
    cutoffs = current_cutoffs()
    context = details_context(request, found) | form | _status_context(request, found, cutoffs)
    points: dict[str, list[dict[str, Any]]] = {}
    try:
        points = ring_buffers.recent(found.pk)
    except DependencyAway:
        context["metrics_away"] = True
    context |= {
        "offline_since": found.offline_since(cutoffs),
        "presence": presence_context(request, found),
        "history": history_of(request, found, request.GET.get("page")),
        "metrics": [
            {
                "type": metric_type,
                "heading": heading,
                "unit": unit,
                "maximum": maximum,
                "value": points[metric_type][-1]["value"] if points.get(metric_type) else None,
            }
            for metric_type, heading, unit, maximum in METRICS
        ],
        "snapshot": {"metrics": points, "now": round(time.time() * 1000)},
    }
    return render(request, "devices/device.html", context, status=status)


@page
@require_safe
def device_status(request: PersonRequest, device_uuid: UUID) -> HttpResponse:
    """Render the fragments that change with the device's connectivity."""
    context = _status_context(request, find_device(request, device_uuid), current_cutoffs())
    return render(request, "devices/_status.html", context)


def _status_context(request: PersonRequest, found: Device, cutoffs: Cutoffs) -> dict[str, Any]:
    status = DeviceStatusAnswer(found, context={"cutoffs": cutoffs}).data
    information = status["connection_info"] or {}
    current = information.get("system_info") or {}
    return {
        "device": found,
        "status": status,
        "information": information,
        "different_at_enrolment": {
            name: value for name, value in found.hardware_info.items() if current.get(name) != value
        },
        "pause": current_pause(cutoffs),
        "flood": _flood_of(request, found),
        "messages_allowed": settings.DEVICE_MESSAGES_PER_SECOND,
        "online_minutes": settings.ONLINE_SECONDS // 60,
        "stale_minutes": settings.STALE_SECONDS // 60,
    }


def _flood_of(request: PersonRequest, found: Device) -> FloodBlock | None:
    """Return its last disconnection for sending too much, if that was lately."""
    rows = FloodBlock.objects.visible_to(request.user).filter(device_uuid=found.pk)
    return rows.filter(at__gt=timezone.now() - FLOODS_SHOWN_FOR).first()
