"""Show dead letters, and let people replay and discard them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.db.models.functions import Length
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import filesizeformat, truncatechars
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AllValuesCheckboxFilter
from unfold.decorators import action

from natsbridge.admin.base import ReadOnlyAdmin, label, preformatted, pretty_json
from natsbridge.confirmation import Confirmation
from natsbridge.dead_letters import store
from natsbridge.models import DeadLetter
from natsbridge.protocol.hexdump import readable

State = DeadLetter.State
STATE_KINDS = {State.WAITING: "warning", State.REPLAYED: "success", State.DISCARDED: ""}


class Sized(Protocol):
    body_bytes: int


REPLAY = Confirmation(
    "Replay this dead letter?",
    "A running subscriber passes the message to its handler again, with its original subject "
    "and time.",
    "Replay",
    dangerous=False,
)
REPLAY_REASON = replace(
    REPLAY,
    title="Replay all dead letters with this reason?",
    text="A running subscriber passes each message to its handler again, with its original subject "
    "and time.",
)
DISCARD = Confirmation(
    "Discard this dead letter?",
    "A discarded dead letter cannot be replayed.",
    "Discard",
)


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    list_display = (
        "dead_lettered_at",
        "status",
        "reason",
        "subject",
        "summary",
        "size",
        "attempts",
    )
    list_filter = (
        ("reason", AllValuesCheckboxFilter),
        ("state", AllValuesCheckboxFilter),
        ("kind", AllValuesCheckboxFilter),
        "dead_lettered_at",
    )
    list_filter_submit = True
    search_fields = ("subject", "detail", "tenant", "device")
    search_help_text = "Part of the subject or detail, such as the UUID of a tenant or device"
    show_full_result_count = False
    actions = ("replay_selected", "discard_selected")
    actions_detail = ("replay", "replay_reason", "discard")
    fields = (
        "status",
        "reason",
        "detail_text",
        "subject",
        "tenant",
        "device",
        "received_at",
        "dead_lettered_at",
        "attempts",
        "resolved_at",
        "resolved_by",
        "size",
        "pretty_headers",
        "readable_body",
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeadLetter]:
        # A body may be a megabyte, so a list must not load the bodies.
        return DeadLetter.objects.defer("body").annotate(body_bytes=Length("body"))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("natsbridge.delete_deadletter")

    def has_resolve_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("natsbridge.change_deadletter")

    @action(description="Replay selected dead letters", permissions=["resolve"])
    def replay_selected(self, request: HttpRequest, rows: QuerySet[DeadLetter]) -> None:
        self._replay(request, rows)

    @action(description="Discard selected dead letters", permissions=["resolve"])
    def discard_selected(self, request: HttpRequest, rows: QuerySet[DeadLetter]) -> None:
        self._discard(request, rows)

    @action(description="Replay", permissions=["resolve"], icon="replay")
    def replay(self, request: HttpRequest, object_id: Any) -> HttpResponse:
        return self._ask(request, object_id, REPLAY, self._replay)

    @action(description="Replay all with this reason", permissions=["resolve"], icon="fast_rewind")
    def replay_reason(self, request: HttpRequest, object_id: Any) -> HttpResponse:
        def all_of_its_reason(request: HttpRequest, rows: QuerySet[DeadLetter]) -> None:
            reasons = rows.values_list("reason", flat=True)
            self._replay(request, DeadLetter.objects.filter(reason__in=list(reasons)))

        return self._ask(request, object_id, REPLAY_REASON, all_of_its_reason)

    @action(description="Discard", permissions=["resolve"], icon="delete_sweep")
    def discard(self, request: HttpRequest, object_id: Any) -> HttpResponse:
        return self._ask(request, object_id, DISCARD, self._discard)

    def _replay(self, request: HttpRequest, rows: QuerySet[DeadLetter]) -> None:
        asked = store.request_replay(_plain(rows), by=request.user.get_username())
        self.message_user(request, f"Replay requested: {asked}", messages.SUCCESS)

    def _discard(self, request: HttpRequest, rows: QuerySet[DeadLetter]) -> None:
        gone = store.discard(_plain(rows), by=request.user.get_username())
        self.message_user(request, f"Discarded: {gone}", messages.SUCCESS)

    def _ask(
        self,
        request: HttpRequest,
        object_id: Any,
        confirmation: Confirmation,
        act: Callable[[HttpRequest, QuerySet[DeadLetter]], None],
    ) -> HttpResponse:
        page = reverse("admin:natsbridge_deadletter_change", args=[object_id])
        rows = DeadLetter.objects.filter(pk=unquote(str(object_id)))
        if request.method == "POST":
            act(request, rows)
            return redirect(page)
        context = self.admin_site.each_context(request) | {
            "title": confirmation.title,
            "confirmation": confirmation,
            "rows": rows.defer("body"),
            "form": forms.Form(),
            "back": page,
        }
        return TemplateResponse(request, "admin/confirmation.html", context)

    @admin.display(description="State", ordering="state")
    def status(self, message: DeadLetter) -> SafeString:
        if message.state == State.WAITING and message.replay_requested_at:
            return label("Replay requested", "info")
        return label(message.get_state_display(), STATE_KINDS[State(message.state)])

    @admin.display(description="Detail")
    def summary(self, message: DeadLetter) -> str:
        last_line = message.detail.strip().rpartition("\n")[2]
        return truncatechars(last_line, 80)

    @admin.display(description="Detail")
    def detail_text(self, message: DeadLetter) -> SafeString:
        return preformatted(message.detail)

    @admin.display(description="Body size", ordering="body_bytes")
    def size(self, message: Sized) -> str:
        return filesizeformat(message.body_bytes)

    @admin.display(description="Headers")
    def pretty_headers(self, message: DeadLetter) -> SafeString:
        return pretty_json(message.headers)

    @admin.display(description="Body")
    def readable_body(self, message: DeadLetter) -> SafeString:
        return preformatted(readable(bytes(message.body)))


def _plain(rows: QuerySet[DeadLetter]) -> QuerySet[DeadLetter]:
    """Return the same rows without the annotations of the list."""
    return DeadLetter.objects.filter(pk__in=rows.order_by().values("pk"))
