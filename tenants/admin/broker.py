"""A tenant's page: suspend and resume it, and manage its credentials, keys and limits."""

from dataclasses import replace
from functools import partial
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import slugify
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from natsbridge.admin.base import label, moment
from tenants.actions.limits import LIMITS, UNLIMITED, check_limit, tenant_limits
from tenants.actions.suspension import resume_tenant, suspend_tenant
from tenants.admin.confirming import confirm
from tenants.admin.credentials import credential_table
from tenants.admin.issuing import SecretAdmin
from tenants.admin.writing import person_of
from tenants.credentials import rotate as rotation
from tenants.credentials.issue import issue_tenant_credential
from tenants.credentials.rotate import devices_not_renewing, rotate_all, rotate_tenant
from tenants.errors import LimitRefused
from tenants.forms.confirmations import ISSUE, RESUME, ROTATE, ROTATE_KEYS, SUSPEND
from tenants.forms.credentials import RotateForm
from tenants.models import BrokerAccount, Credential, Tenant

CREDENTIALS_SHOWN = 5

STATE_KINDS = {
    "failed": "danger",
    "waiting": "warning",
    "provisioned": "success",
    "suspended": "danger",
}


class AccountStateFilter(DropdownFilter):
    title = "broker account"
    parameter_name = "account"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        return [("suspended", "Suspended"), ("waiting", "Waiting"), ("failed", "Failed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> QuerySet[Tenant]:
        provisioned = BrokerAccount.objects.filter(provisioned_at__gte=F("wanted_at"))
        match self.value():
            case "suspended":
                return queryset.exclude(suspended_at=None)
            case "waiting":
                return queryset.exclude(broker_account__in=provisioned)
            case "failed":
                return queryset.filter(broker_account__last_error__gt="")
        return queryset


def _limit_field(title: str) -> forms.IntegerField:
    return forms.IntegerField(label=title, required=False, widget=UnfoldAdminIntegerFieldWidget)


class TenantForm(forms.ModelForm):
    """A tenant with the limits of its account. An empty limit follows the settings."""

    max_connections = _limit_field("Connections")
    max_subscriptions = _limit_field("Subscriptions of one connection")
    max_payload_bytes = _limit_field("Bytes of one message")
    storage_bytes = _limit_field("Bytes of storage")
    max_devices = _limit_field("Devices")

    class Meta:
        model = Tenant
        fields = ("name",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, limit in tenant_limits(self.instance).items():
            if name in self.fields:
                self.fields[name].initial = limit["own"]
                self.fields[name].help_text = f"Empty: the default, {_number(limit['default'])}."

    def clean(self) -> dict[str, Any] | None:
        cleaned: dict[str, Any] | None = super().clean()
        for name, value in self.limits().items():
            try:
                check_limit(name, value)
            except LimitRefused as error:
                self.add_error(name, str(error))
        return cleaned

    def limits(self) -> dict[str, int | None]:
        return {name: self.cleaned_data.get(name) for name in LIMITS if name in self.fields}


def _number(limit: int | None) -> str:
    return "no limit (-1)" if limit == UNLIMITED else f"{limit:,}"


class BrokerAdmin(SecretAdmin):
    """The part of TenantAdmin about the broker, for staff who may change tenants."""

    issued_model = Credential
    issued_title = "New credential"

    actions_detail: tuple[str, ...] = ("suspend", "resume", "issue", "rotate", "rotate_keys")

    def has_control_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("tenants.change_tenant")

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Leave out what does not apply to the tenant in its present state."""
        offered = super().get_actions_detail(request, object_id)
        suspended = Tenant.objects.filter(pk=object_id).exclude(suspended_at=None).exists()
        inapplicable = ("suspend", "issue", "rotate") if suspended else ("resume",)
        names = {f"tenants_tenant_{name}" for name in inapplicable}
        return [each for each in offered if each.action_name not in names]

    @action(
        description="Suspend", permissions=["control"], icon="block", variant=ActionVariant.DANGER
    )
    def suspend(self, request: HttpRequest, object_id: str) -> HttpResponse:
        tenant = get_object_or_404(Tenant, pk=object_id)

        def act(form: forms.Form) -> None:
            reason = form.cleaned_data["reason"]
            suspend_tenant(tenant, by=person_of(request), reason=reason)

        return confirm(self, request, tenant, SUSPEND, act)

    @action(description="Resume", permissions=["control"], icon="play_arrow")
    def resume(self, request: HttpRequest, object_id: str) -> HttpResponse:
        tenant = get_object_or_404(Tenant, pk=object_id)

        def act(form: forms.Form) -> None:
            resume_tenant(tenant, by=person_of(request))

        return confirm(self, request, tenant, RESUME, act)

    @action(description="Issue credential", permissions=["control"], icon="add")
    def issue(self, request: HttpRequest, object_id: str) -> HttpResponse:
        tenant = get_object_or_404(Tenant, pk=object_id)

        def act(form: forms.Form) -> HttpResponse:
            kind = form.cleaned_data["kind"]
            issued = issue_tenant_credential(tenant, kind=kind, by=person_of(request))
            return self.to_secret(request, issued.credential, issued.secret)

        return confirm(self, request, tenant, ISSUE, act)

    @action(description="Rotate credential", permissions=["control"], icon="autorenew")
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        tenant = get_object_or_404(Tenant, pk=object_id)

        def act(form: Any) -> HttpResponse:
            every_device = form.cleaned_data["every_device"]
            rotate = rotate_all if every_device else rotate_tenant
            replaces = form.replaced(tenant)
            issued = rotate(tenant, by=person_of(request), replaces=replaces, **form.options())
            return self.to_secret(request, issued.credential, issued.secret)

        kept = len(devices_not_renewing(tenant))
        form = partial(RotateForm, initial={"seen": RotateForm.newest(tenant)}, kept=kept)
        return confirm(self, request, tenant, replace(ROTATE, form=form), act)

    @action(description="Rotate signing keys", permissions=["control"], icon="key")
    def rotate_keys(self, request: HttpRequest, object_id: str) -> HttpResponse:
        tenant = get_object_or_404(Tenant, pk=object_id)

        def act(form: forms.Form) -> None:
            overlap = form.cleaned_data["overlap"]
            rotation.rotate_keys(tenant, by=person_of(request), overlap=overlap)

        return confirm(self, request, tenant, ROTATE_KEYS, act)

    def worth_copying(self, row: Credential) -> dict[str, str]:
        is_file = row.kind == Credential.Kind.JWT
        username = "User at the broker" if is_file else "Username"
        return {"Server": settings.AGENT_NATS_URL, username: row.username}

    def secret_context(self, row: Credential) -> dict[str, Any]:
        if row.kind != Credential.Kind.JWT:
            return {"before": row.before()}
        file_name = f"{slugify(row.tenant.name) or 'tenant'}.creds"
        return {"before": row.before(), "long_secret": True, "file_name": file_name}

    @admin.display(description="Status")
    def status(self, tenant: Tenant) -> SafeString:
        if tenant.suspended_at is None:
            return label("Active", "success")
        return format_html(
            "{} {} by {}: {}",
            label("Suspended", "danger"),
            moment(tenant.suspended_at),
            tenant.suspended_by_name or "the platform",
            tenant.suspended_reason or "no reason given",
        )

    @admin.display(description="Broker account")
    def account(self, tenant: Tenant) -> SafeString:
        account = _account(tenant)
        if account is None:
            return label("None", "danger")
        shown = label(account.state.capitalize(), STATE_KINDS[account.state])
        if tenant.suspended_at is None or account.state == "suspended":
            return shown
        return format_html("{} {}", shown, label("Suspended", "danger"))

    @admin.display(description="Pending changes")
    def account_waits(self, tenant: Tenant) -> str:
        account = _account(tenant)
        if account is None or account.waits:
            return "The last change is pending: a running subscriber pushes it to the broker."
        return f"None. The broker is up to date as of {moment(account.provisioned_at)}."

    @admin.display(description="Public key")
    def account_key(self, tenant: Tenant) -> str:
        account = _account(tenant)
        return account.public_key if account else ""

    @admin.display(description="Last error")
    def account_error(self, tenant: Tenant) -> str:
        account = _account(tenant)
        return account.last_error if account else ""

    @admin.display(description="Limits")
    def limits_in_force(self, tenant: Tenant) -> str:
        return ", ".join(
            f"{TenantForm.base_fields[name].label}: {_number(limit['value'])}"
            for name, limit in tenant_limits(tenant).items()
        )

    @admin.display(description="The tenant's own credentials")
    def credentials(self, tenant: Tenant) -> SafeString:
        rows = tenant.credentials.filter(device_uuid=None)
        shown = rows.select_related("tenant", "issued_by")[:CREDENTIALS_SHOWN]
        return credential_table(shown, tenant.pk)


def _account(tenant: Tenant) -> BrokerAccount | None:
    return getattr(tenant, "broker_account", None)
