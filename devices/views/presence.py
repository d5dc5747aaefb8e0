"""A device's online and offline times: a bar for a day or a week, and the changes in a list."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from devices.models import Device, Presence, PresenceChange
from devices.presence.coverage import blind_times
from devices.presence.rules import timeline
from devices.views.parts import find_device
from tenants.views.page import PersonRequest, page, wants_fragment

CHANGES_PER_PAGE = 5
# Of a device that keeps connecting and disconnecting, the newest changes are drawn.
MOST_DRAWN = 2000
RANGES = {
    1: ("24 h", ("24 h ago", "18 h", "12 h", "6 h", "now")),
    7: ("7 d", ("7 d ago", "6 d", "5 d", "4 d", "3 d", "2 d", "1 d", "now")),
}


@page
@require_safe
def device_presence(request: PersonRequest, device_uuid: UUID) -> HttpResponse:
    """`?days=` 1 or 7, `?changes=` a page of the list."""
    found = find_device(request, device_uuid)
    if not wants_fragment(request):
        query = request.GET.urlencode()
        return redirect(f"{reverse('device', args=[found.pk])}?{query}")
    return render(request, "devices/_presence.html", presence_context(request, found))


def presence_context(request: PersonRequest, found: Device) -> dict[str, Any]:
    days = 7 if request.GET.get("days") == "7" else 1
    changes = PresenceChange.objects.visible_to(request.user).filter(device=found)
    spans = _spans(found, changes, days)
    whole = timedelta(days=days)
    online = sum((end - start for state, start, end in spans if state == "online"), timedelta())
    known = sum((end - start for state, start, end in spans if state), timedelta())
    start = spans[0].start
    return {
        "device": found,
        "days": days,
        "ranges": [(number, name) for number, (name, _) in RANGES.items()],
        "ticks": RANGES[days][1],
        "bar": [
            {
                "state": span.presence or "unknown",
                "x": round((span.start - start) / whole * 1000, 2),
                "width": round(max((span.end - span.start) / whole * 1000, 0.7), 2),
                "seconds": (span.end - span.start).total_seconds(),
            }
            for span in spans
        ],
        "share": round(100 * (online / known), 1) if known else None,
        "changes": Paginator(changes, CHANGES_PER_PAGE).get_page(request.GET.get("changes")),
    }


def _spans(found: Device, changes: Any, days: int) -> Any:
    now = timezone.now()
    start = now - timedelta(days=days)
    newest = list(changes.filter(at__gte=start).values_list("presence", "at")[:MOST_DRAWN])[::-1]
    before = changes.filter(at__lt=start).values_list("presence", "at").first()
    connectivity = getattr(found, "connectivity", None)
    # The change itself may be older than what the history keeps.
    if before is None and not newest and connectivity and connectivity.presence:
        before = (connectivity.presence, connectivity.presence_at)
    known = [(Presence(presence), at) for presence, at in ([before] if before else []) + newest]
    return timeline(known, start, now, blind_times(now))
