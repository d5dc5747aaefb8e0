"""The overview page of the admin; each number is a link to its list."""

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
from devices.presence.coverage import current_cutoffs
from devices.presence.rules import Status
from natsbridge.models import DeadLetter
from natsbridge.retention.engine import last_run
from natsbridge.subscriber import pause
from natsbridge.subscriber.status import open_breakers, service_state, stream_usage

DAY = timedelta(hours=24)
# How full a stream is, in percent, when somebody should look at it.
NEARLY_FULL = 80


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
        "natsbridge.deadletter": ("Dead letters in 24 hours", dead_letters),
        "natsbridge.pruning": ("Old rows deleted", pruned),
    }
    shown = [
        (title, count()) for model, (title, count) in figures.items() if may_list(request, model)
    ]
    if may_list(request, "natsbridge.subscriberstatus") and (filled := streams()):
        shown.append(("Streams, percent full", filled))
    return {**context, "title": "Overview", "figures": shown, "pause": pause.current()}


def devices() -> list[Figure]:
    cutoffs = current_cutoffs()
    return [
        Figure(
            status.value,
            Device.objects.in_fleet().with_status(status, cutoffs).count(),
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
    away = [Figure(f"Without {name}", state.running, link, "danger") for name in open_breakers()]
    if state.paused:
        return [Figure("Running, but paused", state.running, link, "warning"), *away]
    if not state.connected and state.running:
        return [Figure("Running, but not connected", state.running, link, "danger"), *away]
    return [
        Figure("Running", state.running, link, "success" if state.running else "danger"),
        *away,
    ]


def streams() -> list[Figure]:
    """Return how full each stream is, and how many devices are close to their own limit."""
    link = linked("natsbridge.subscriberstatus")
    usage = stream_usage()
    figures = [
        Figure(
            name,
            round(level["percent"]),
            link,
            "danger" if level["percent"] >= NEARLY_FULL else "success",
        )
        for name, level in usage.items()
        if "percent" in level
    ]
    crowding = {
        each.get("device") for level in usage.values() for each in level.get("near_limit", ())
    }
    if crowding:
        figures.append(Figure("Devices near their own limit", len(crowding), link, "danger"))
    return figures


def dead_letters() -> list[Figure]:
    recent = DeadLetter.objects.filter(
        state=DeadLetter.State.WAITING, dead_lettered_at__gt=timezone.now() - DAY
    )
    reasons = recent.values_list("reason").order_by().annotate(Count("id")).order_by("reason")
    return [
        Figure(reason, number, linked("natsbridge.deadletter", reason=reason), "warning")
        for reason, number in reasons
    ] or [Figure("None", 0, linked("natsbridge.deadletter"), "success")]


def pruned() -> list[Figure]:
    """Return what the last run deleted; there is one a day while a subscriber runs."""
    link, last = linked("natsbridge.pruning"), last_run()
    if last is None:
        return [Figure("Never yet", 0, link)]
    kind = "danger" if last.problems else "success"
    if last.finished_at < timezone.now() - 2 * DAY:
        kind = "warning"
    at = timezone.localtime(last.finished_at).strftime("%-d %b, %H:%M")
    return [Figure(at, last.rows, link, kind)]


def linked(model: str, **filters: str) -> str:
    page = reverse(list_name(model))
    return f"{page}?{urlencode(filters)}" if filters else page
