"""The admin's side bar, with the models that the person may see."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

# Title, icon, and the model whose list it opens.
SECTIONS = {
    "Devices": (
        ("Devices", "computer", "devices.device"),
        ("Commands", "terminal", "devices.command"),
        ("Tags", "sell", "devices.tag"),
        ("Custom fields", "list_alt", "devices.customfield"),
        ("Notes", "sticky_note_2", "devices.note"),
    ),
    "Tenants": (
        ("Tenants", "domain", "tenants.tenant"),
        ("Organisations", "corporate_fare", "tenants.organisation"),
        ("Groups", "folder", "tenants.group"),
        ("Enrolment keys", "key", "tenants.enrollmentkey"),
        ("Credentials", "encrypted", "tenants.credential"),
    ),
    "People": (
        ("Users", "person", "tenants.user"),
        ("Staff roles", "badge", "auth.group"),
        ("API tokens", "vpn_key", "tenants.apitoken"),
    ),
    "Operations": (
        ("Subscribers", "hub", "natsbridge.subscriberstatus"),
        ("Dead letters", "inbox", "natsbridge.deadletter"),
        ("Pruning", "auto_delete", "natsbridge.pruning"),
        ("Audit", "policy", "tenants.auditentry"),
        ("Sign-in attempts", "lock", "axes.accessattempt"),
        ("Failed sign-ins", "gpp_bad", "axes.accessfailurelog"),
        ("Sign-ins", "login", "axes.accesslog"),
    ),
}


def sections(request: HttpRequest) -> list[dict[str, Any]]:
    overview = [
        {"title": "Overview", "icon": "dashboard", "link": reverse("admin:index")},
        {"title": "Live fleet", "icon": "monitoring", "link": reverse("fleet"), "active": False},
    ]
    listed = [
        {"title": title, "items": [entry(*line) for line in lines if may_list(request, line[2])]}
        for title, lines in SECTIONS.items()
    ]
    return [{"items": overview}, *(section for section in listed if section["items"])]


def entry(title: str, icon: str, model: str) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse(list_name(model))}


def list_name(model: str) -> str:
    return f"admin:{model.replace('.', '_')}_changelist"


def may_list(request: HttpRequest, model: str) -> bool:
    app, name = model.split(".")
    return any(request.user.has_perm(f"{app}.{verb}_{name}") for verb in ("view", "change"))
