"""Whatever names a row, in a body or a filter, finds only rows that the caller may see."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.forms.models import ModelChoiceField
from django_filters import FilterSet, UUIDFilter
from rest_framework import serializers

from tenants.models import Group, User
from tests.suites.permissions.endpoints import endpoints
from tests.suites.permissions.world import World, build

APPS = ("wegweiser.", "devices.", "tenants.", "natsbridge.")
# Ids outside of relations, and what becomes of each.
_AUDIT = "chooses among the entries of visible tenants; a deleted device has some still"
_TARGETS = "devices.commands.targets looks it up by visible_to"
PLAIN_IDS = {
    "AuditEntryFilters.device": _AUDIT,
    "AuditExportSerializer.device": _AUDIT,
    "AuditFilterSerializer.device": _AUDIT,
    "AuditPageSerializer.device": _AUDIT,
    "BulkCommandSerializer.devices": _TARGETS,
    "BulkCommandSerializer.group": _TARGETS,
    "BulkCommandSerializer.organisation": _TARGETS,
    "DeadLetterFilters.device": "is for staff, and a dead letter may name anything",
    "DeadLetterFilters.tenant": "is for staff, and a dead letter may name anything",
    "FilterSerializer.group": "the filter set of the fleet looks it up by visible_to",
    "FilterSerializer.organisation": "the filter set of the fleet looks it up by visible_to",
    "FilterSerializer.tenant": "the filter set of the fleet looks it up by visible_to",
    "GroupProgressFields.uuid": "is in an answer only",
    "HeartbeatSerializer.device_uuid": "is compared with the device that calls",
    "HeartbeatSerializer.tenant_uuid": "is compared with the device that calls",
    "ImportedDevice.uuid": "names a new device",
    "RegistrationSerializer.groupuuid": "must be the group of the enrolment key",
}


def of_project(base: type) -> Iterator[type]:
    """Every class of the project that inherits from it; `endpoints` has imported them all."""
    for each in base.__subclasses__():
        if each.__module__.startswith(APPS):
            yield each
        yield from of_project(each)


def fields_of(serializer: type, context: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields that a body may have, and those inside of lists."""
    for name, field in serializer(context=context).fields.items():
        if not field.read_only:
            yield name, field
            inner = getattr(field, "child_relation", getattr(field, "child", None))
            if inner is not None:
                yield name, inner


def relations_of(person: User) -> Iterator[tuple[str, Any]]:
    """Each relation by its name, and the rows that it finds for the person."""
    request = SimpleNamespace(user=person, auth=None, method="POST", parser_context={})
    view = SimpleNamespace(action="create")
    for serializer in set(of_project(serializers.BaseSerializer)):
        if issubclass(serializer, serializers.ModelSerializer) and not hasattr(serializer, "Meta"):
            continue
        for name, field in fields_of(serializer, {"request": request, "view": view}):
            if isinstance(field, serializers.RelatedField):
                yield f"{serializer.__name__}.{name}", field.get_queryset()
    for filters in set(of_project(FilterSet)):
        model = filters._meta.model
        rows = model.objects.none() if model else User.objects.none()
        for name, field in filters({}, rows, request=request).form.fields.items():
            if isinstance(field, ModelChoiceField):
                yield f"{filters.__name__}.{name}", field.queryset


@pytest.fixture
def world(group_a: Group, group_b: Group) -> World:
    return build(group_a, group_b)


def test_each_relation_finds_what_the_caller_may_see_and_nothing_else(world: World) -> None:
    assert endpoints()
    own = {name: set(rows) for name, rows in relations_of(world.people["admin"])}
    foreign = {name: set(rows) for name, rows in relations_of(world.people["outsider"])}
    assert len(own) > 10
    assert own.keys() == foreign.keys()
    for name, rows in own.items():
        assert rows, f"{name}: the world has nothing that it could find"
        assert not rows & foreign[name], name


def plain_ids() -> set[str]:
    """The ids that bodies and filters take outside of relations.

    What ends in `Answer` is in answers only.
    """
    bodies = {
        f"{serializer.__name__}.{name}"
        for serializer in of_project(serializers.BaseSerializer)
        if not issubclass(serializer, serializers.ModelSerializer) or hasattr(serializer, "Meta")
        for name, field in fields_of(serializer, {})
        if isinstance(field, serializers.UUIDField) and not serializer.__name__.endswith("Answer")
    }
    return bodies | {
        f"{filters.__name__}.{name}"
        for filters in of_project(FilterSet)
        for name, each in filters.base_filters.items()
        if isinstance(each, UUIDFilter)
    }


def test_an_id_outside_of_a_relation_says_what_becomes_of_it() -> None:
    assert endpoints()
    assert plain_ids() == PLAIN_IDS.keys()
