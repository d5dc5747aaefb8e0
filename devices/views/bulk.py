"""Commands to many devices: the list, a new one, and the progress of one."""

from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from devices.commands import bulk
from devices.commands.rules.states import COMMAND_STATES
from devices.errors import CommandRefused
from devices.forms.bulk import TargetsForm, capabilities_among
from devices.forms.command import CommandForm
from devices.models import BulkCommand, Command, CommandState
from devices.presence.coverage import current_cutoffs
from tenants.actions.idempotency import IdempotencyKey
from tenants.errors import IdempotencyKeyReused
from tenants.models import Role, Tenant, has_role
from tenants.views.page import PersonRequest, page, wants_fragment

BULKS_PER_PAGE = 20
COMMANDS_PER_PAGE = 50
# htmx asks no more after this answer.
STOP_POLLING = 286


@page
@require_safe
def bulk_commands(request: PersonRequest) -> HttpResponse:
    visible = BulkCommand.objects.visible_to(request.user).defer("waiting")
    shown = Paginator(visible.select_related("created_by", "tenant"), BULKS_PER_PAGE).get_page(
        request.GET.get("page")
    )
    counts = bulk.progress_of(shown.object_list)
    context = {
        "page": shown,
        "rows": [(each, _summary(counts[each.pk])) for each in shown],
    }
    return render(request, "devices/bulk_commands.html", context)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: PersonRequest) -> HttpResponse:
    """GET: show the form, filled from the query string where it names a target; for htmx, the
    preview or the fields of the parameters. POST: issue the command, or preview it."""
    if not _may_issue(request):
        raise PermissionDenied("Sending commands needs the role operator in some tenant.")
    sent = request.method == "POST"
    data = request.POST if sent else request.GET
    to = TargetsForm(request.user, data if "target" in data else None)
    available = capabilities_among(request.user)
    name = data.get("command", available[0].name if available else "").strip()
    capability = next((each for each in available if each.name == name), None)
    issuing = sent and "preview" not in data
    # When the command has just been chosen, its parameters are still empty.
    form = CommandForm(name, capability, data if sent and data.get("preview") != "fields" else None)
    context = {"to": to, "form": form, "capabilities": available, "capability": capability}
    if issuing and to.is_valid() and form.is_valid():
        try:
            issued, _ = bulk.issue(
                to.targets(),
                form.cleaned_data["command"],
                form.parameter_values(),
                by=request.user,
                deadline=form.cleaned_data["deadline"],
                idempotency_key=_key_of(request, to),
            )
            return redirect("bulk-command", issued.uuid)
        except (CommandRefused, IdempotencyKeyReused) as error:
            form.add_error(None, str(error))
    context |= _preview(to, name)
    template = "devices/bulk_new.html"
    if wants_fragment(request):
        fragment = request.headers.get("HX-Target", "") == "parameters"
        template = "devices/_bulk_parameters.html" if fragment else "devices/_bulk_preview.html"
    return render(request, template, context, status=422 if issuing else 200)


@page
@require_safe
def bulk_command(request: PersonRequest, bulk_uuid: UUID) -> HttpResponse:
    """Show its progress and its devices (`?state=`, `?page=`)."""
    return _render(request, _find(request, bulk_uuid))


@page
@require_POST
def cancel(request: PersonRequest, bulk_uuid: UUID) -> HttpResponse:
    found = _find(request, bulk_uuid)
    _require_operator(request, found)
    bulk.cancel(found, by=request.user)
    return redirect("bulk-command", bulk_uuid)


@page
@require_POST
def retry(request: PersonRequest, bulk_uuid: UUID) -> HttpResponse:
    found = _find(request, bulk_uuid)
    _require_operator(request, found)
    try:
        again, _ = bulk.retry(found, by=request.user)
    except CommandRefused as error:
        return _render(request, found, notice=str(error), status=409)
    return redirect("bulk-command", again.uuid)


def _key_of(request: PersonRequest, to: TargetsForm) -> IdempotencyKey | None:
    """Return the form's key with what it asks for, so that a form sent twice issues one command."""
    asked = sorted((name, request.POST.getlist(name)) for name in request.POST)
    return IdempotencyKey.of(to.key_sent, request.path, asked) if to.key_sent else None


def _render(
    request: PersonRequest, found: BulkCommand, notice: str = "", status: int = 200
) -> HttpResponse:
    counts = bulk.progress(found)
    chosen = request.GET.get("state", "")
    rows = (
        Command.objects.visible_to(request.user).filter(bulk=found).order_by("device__name", "id")
    )
    if chosen in counts:
        rows = rows.filter(state=chosen)
    shown = Paginator(
        rows.select_related("device__connectivity").defer("result", "parameters"),
        COMMANDS_PER_PAGE,
    ).get_page(request.GET.get("page"))
    summary = _summary(counts)
    context = {
        "bulk": found,
        "notice": notice,
        "chosen": chosen,
        "page": shown,
        "may_command": has_role(request.user, found.tenant_id, Role.OPERATOR),
        "cutoffs": current_cutoffs(),
        "to_give_up": bulk.to_give_up(found),
        "retriable": bulk.failed(found).count(),
        "retries": found.retries.order_by("id"),
        **summary,
    }
    if not wants_fragment(request):
        return render(request, "devices/bulk_command.html", context, status=status)
    if not summary["running"]:
        status = STOP_POLLING
    return render(request, "devices/_bulk.html", context, status=status)


def _summary(counts: dict[str, int]) -> dict[str, Any]:
    """Count its commands. `bar` has the ended ones, as parts of a width of 1000."""
    total = sum(counts.values())
    ended = sum(counts[state] for state in COMMAND_STATES.final)
    bar, left = [], 0.0
    for state in COMMAND_STATES.final:
        width = 1000 * counts[state] / total if total else 0
        label = CommandState(state).label
        if width:
            bar.append({"state": state, "name": label, "x": left, "width": width})
        left += width
    return {
        "total": total,
        "ended": ended,
        "running": ended < total,
        "bar": bar,
        "counts": [(state, counts[state.value]) for state in CommandState],
        "by_state": counts,
    }


def _preview(to: TargetsForm, command: str) -> dict[str, Any]:
    """Preview the devices that the form names, or say why not; nothing for an empty form."""
    if not to.is_bound or not to.is_valid():
        return {}
    try:
        wanted = to.targets()
    except CommandRefused as error:
        return {"refusal": str(error)}
    return {"wanted": wanted, "preview": bulk.preview(wanted, command)}


def _find(request: PersonRequest, bulk_uuid: UUID) -> BulkCommand:
    visible = BulkCommand.objects.visible_to(request.user)
    related = visible.select_related("created_by", "tenant", "retry_of")
    return get_object_or_404(related, uuid=bulk_uuid)


def _may_issue(request: PersonRequest) -> bool:
    return Tenant.objects.visible_to(request.user, Role.OPERATOR).exists()


def _require_operator(request: PersonRequest, found: BulkCommand) -> None:
    if not has_role(request.user, found.tenant_id, Role.OPERATOR):
        raise PermissionDenied("This needs the role operator in the tenant.")
