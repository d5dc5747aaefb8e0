"""What the web may touch: rows through `visible_to`, and writes through actions."""

import ast

import pytest

from tests.house import sources
from tests.house.sources import Source, planted

MANAGERS = {"objects", "_default_manager", "_base_manager"}
TENANT_SAFE = {"visible_to", "none", "holding_token", "managed_by", "of_tenant"}
SHORTCUTS = {"get_object_or_404", "get_list_or_404"}
WRITES = {
    *("save", "create", "update", "delete"),
    *("bulk_create", "bulk_update", "get_or_create", "update_or_create"),
}
WRITES |= {f"a{name}" for name in WRITES}


def reaches(source: Source) -> list[str]:
    """Where it takes rows of a model that are not those of somebody in particular."""
    safe = {
        id(node.value)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute) and node.attr in TENANT_SAFE
    }
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr in MANAGERS and id(node) not in safe:
            found.append((node.lineno, ast.unparse(node)))
        elif isinstance(node, ast.Call) and _name(node.func) in SHORTCUTS:
            rows = node.args[0]
            if isinstance(rows, ast.Name) and rows.id[:1].isupper():
                found.append((node.lineno, ast.unparse(node)))
    return sources.numbered(source, found)


def writes(source: Source) -> list[str]:
    """Where it writes rows itself."""
    return sources.numbered(
        source,
        (
            (node.lineno, ast.unparse(node.func))
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in WRITES
        ),
    )


def _name(function: ast.expr) -> str:
    return ast.unparse(function).rpartition(".")[2]


def test_what_people_reach_takes_rows_only_through_visible_to() -> None:
    found = [
        line
        for source in sources.product()
        if sources.is_reached_by_people(source)
        for line in reaches(source)
    ]
    assert not found, "\n".join(found)


def test_what_people_reach_leaves_writing_to_actions() -> None:
    found = [
        line
        for source in sources.product()
        if sources.is_reached_by_people(source)
        for line in writes(source)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "Device.objects.filter(uuid=uuid)",
        "rows = Device.objects",
        "get_object_or_404(Device, uuid=uuid)",
        "shortcuts.get_object_or_404(Device.objects, uuid=uuid)",
        "self.model._default_manager.all()",
    ],
)
def test_a_way_around_visible_to_is_found(text: str) -> None:
    assert reaches(planted(text))


def test_rows_of_somebody_are_not_found() -> None:
    assert not reaches(planted("get_object_or_404(Device.objects.visible_to(person), uuid=uuid)"))


@pytest.mark.parametrize(
    "text", ["device.save()", "rows.filter(x=1).update(y=2)", "await rows.aget_or_create(x=1)"]
)
def test_a_write_outside_of_actions_is_found(text: str) -> None:
    assert writes(planted(text))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (sources.is_api, "from rest_framework.views import APIView\nclass V(APIView): pass"),
        (sources.is_api, "from elsewhere import base\nclass V(base.TenantViewSet[Device]): pass"),
        (sources.is_page, "from django.shortcuts import render"),
        (sources.is_page, "def fleet(request: PersonRequest) -> HttpResponse: ..."),
        (sources.is_websocket, "class Live(AsyncJsonWebsocketConsumer): pass"),
    ],
)
def test_each_kind_is_recognised_wherever_it_lies_and_exists(
    kind: "sources.Kind", text: str
) -> None:
    module = planted(text, "tenants/somewhere/new.py")
    assert kind(module)
    assert sources.is_reached_by_people(module)
    assert any(kind(source) for source in sources.product())


def test_the_admin_is_no_page_of_a_tenant() -> None:
    text = "from django.shortcuts import redirect\nfrom unfold.admin import ModelAdmin"
    assert not sources.is_reached_by_people(planted(text))
    assert not sources.is_reached_by_people(planted("", "devices/admin/parts.py"))
