from django.conf import settings
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from devices.filters.devices import tag_choices
from devices.forms.fleet import FleetFilters
from devices.presence.coverage import current_pause
from devices.presence.rules import Status
from tenants.models import Group, Role, Tenant
from tenants.views.page import PersonRequest, page, wants_fragment

DEVICES_PER_PAGE = 50


@page
@require_safe
def fleet(request: PersonRequest) -> HttpResponse:
    filters = FleetFilters.of(request.user, request.GET)
    cutoffs = filters.cutoffs
    matching = filters.matching(but="status")
    counts = {status: matching.with_status(status, cutoffs).count() for status in Status}
    devices = filters.matching()
    chosen = filters.chosen.get("status")
    paginator = Paginator(
        devices.as_listed(),
        DEVICES_PER_PAGE,
    )
    # Known already; and a page would otherwise count a third time.
    paginator.count = counts[Status(chosen)] if chosen else sum(counts.values())
    shown = paginator.get_page(request.GET.get("page"))
    context = {
        "filters": filters,
        "counts": [(status, counts[status]) for status in Status],
        "total": sum(counts.values()),
        "chosen": chosen,
        "sort": filters.chosen.get("sort") or "name",
        "page": shown,
        "pause": current_pause(cutoffs),
        "rows": [(each, each.status(cutoffs), each.current_presence(cutoffs)) for each in shown],
    }
    if not wants_fragment(request):
        filters.offer_fields()
        context["tags"] = tag_choices(request.user, filters)
    if not wants_fragment(request) or not paginator.count:
        context |= {
            "may_add": Group.objects.visible_to(request.user, Role.ADMIN).exists(),
            "is_member": Tenant.objects.visible_to(request.user).exists(),
            "public_url": settings.PUBLIC_URL,
        }
    template = "devices/_fleet_swapped.html" if wants_fragment(request) else "devices/fleet.html"
    return render(request, template, context)
