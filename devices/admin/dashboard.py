"""The admin's first page: how things stand, each number leading to its list."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from devices.admin.devices import STATUS_KINDS
from devices.admin.navigation import list_name, may_list
from devices.models import OPEN_STATES, Command, Device
from devices.presence import Status
from devices.watch import current_cutoffs
from natsbridge.models import ParkedMessage
from natsbridge.status import service_state

DAY = timedelta(hours=24)


@dataclass(frozen=True)
class Figure:
    title: str
    value: int
    link: str
    kind: str = ""


def overview(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    figures = {
        "devices.device": ("Devices", devices),
        "devices.command": ("Commands", commands),
        "natsbridge.subscriberstatus": ("Subscribers", subscribers),
        "natsbridge.parkedmessage": ("Messages parked in 24 hours", parked),
    }
    shown = [
        (title, count()) for model, (title, count) in figures.items() if may_list(request, model)
    ]
    return {**context, "title": "Overview", "figures": shown}


def devices() -> list[Figure]:
    cutoffs = current_cutoffs()
    return [
        Figure(
            status.value,
            Device.objects.with_status(status, cutoffs).count(),
            linked("devices.device", status=status.value),
            STATUS_KINDS[status],
        )
        for status in Status
    ]


def commands() -> list[Figure]:
    waiting = Command.objects.filter(state__in=OPEN_STATES).values_list("state")
    number = dict(waiting.order_by().annotate(Count("id")))
    return [
        Figure(
            state.label, number.get(state.value, 0), linked("devices.command", state__exact=state)
        )
        for state in OPEN_STATES
    ]


def subscribers() -> list[Figure]:
    state = service_state()
    link = linked("natsbridge.subscriberstatus")
    if not state.connected and state.running:
        return [Figure("Running, but not connected", state.running, link, "danger")]
    return [Figure("Running", state.running, link, "success" if state.running else "danger")]


def parked() -> list[Figure]:
    recent = ParkedMessage.objects.filter(parked_at__gt=timezone.now() - DAY)
    reasons = recent.values_list("reason").order_by().annotate(Count("id")).order_by("reason")
    return [
        Figure(reason, number, linked("natsbridge.parkedmessage", reason=reason), "warning")
        for reason, number in reasons
    ] or [Figure("None", 0, linked("natsbridge.parkedmessage"), "success")]


def linked(model: str, **filters: str) -> str:
    page = reverse(list_name(model))
    return f"{page}?{urlencode(filters)}" if filters else page
