from typing import Any

import pytest

from devices.enrolment.credentials import revoke_device
from devices.filters.devices import DeviceFilters
from devices.inventory.archive import archive_device
from devices.inventory.custom_fields import create_field, set_values
from devices.inventory.rules import FieldType
from devices.inventory.tags import create_tag, set_tags
from devices.models import Connectivity, Device
from tenants.actions.people import set_membership
from tenants.actions.tenants import create_group, create_organisation
from tenants.models import Group, Role, Tenant, User


def add(group: Group, name: str, **connectivity: object) -> Device:
    device = Device.objects.create(group=group, name=name)
    Connectivity.objects.create(device=device, **connectivity)
    return device


def named(person: User, **data: Any) -> list[str]:
    return [device.name for device in DeviceFilters.of(person, data).matching()]


def test_each_filter_narrows_the_devices_and_together_they_do_more(
    alice: User, group_a: Group
) -> None:
    other = create_group(create_organisation(group_a.tenant, name="Acme Labs"), name="Servers")
    system = {"system_info": {"platform": "Windows", "hostname": "WIN-7"}}
    add(group_a, "one", connection_info=system, agent_version="1.2")
    add(other, "two", connection_type="node-red", agent_version="1.2")
    revoke_device(add(other, "three"), by=alice, reason="lost")
    assert named(alice) == ["one", "three", "two"]
    assert named(alice, q="win-7") == named(alice, platform="windows") == ["one"]
    assert named(alice, organisation=str(other.organisation_id)) == ["three", "two"]
    assert named(alice, group=str(group_a.pk)) == ["one"]
    assert named(alice, connection_type="node-red") == ["two"]
    assert named(alice, agent_version="1.2") == ["one", "two"]
    assert named(alice, revoked="true") == ["three"]
    assert named(alice, revoked="false", organisation=str(other.organisation_id)) == ["two"]


@pytest.mark.parametrize("name", ["tenant", "organisation", "group"])
def test_what_belongs_to_another_tenant_is_unknown_to_every_filter(
    alice: User, device_a: Device, device_b: Device, name: str
) -> None:
    places = {"group": device_b.group_id, "organisation": device_b.group.organisation_id}
    foreign = DeviceFilters.of(alice, {name: str(places.get(name, device_b.tenant_id))})
    missing = DeviceFilters.of(alice, {name: "00000000-0000-4000-8000-000000000000"})
    assert foreign.errors == missing.errors
    assert list(foreign.errors) == [name]
    assert not foreign.matching().exists()


def test_a_filter_shows_nothing_that_its_person_may_not_see(
    alice: User, charlie: User, device_a: Device, device_b: Device
) -> None:
    assert named(charlie) == [device_b.name]
    assert named(charlie, q="a") == [device_b.name]
    assert named(alice, revoked="false") == [device_a.name]


def test_an_organisation_of_another_tenant_than_the_chosen_one_is_said_to_be_one(
    alice: User, device_a: Device, device_b: Device
) -> None:
    set_membership(alice, device_b.tenant, Role.VIEWER)
    chosen = {
        "tenant": str(device_a.tenant_id),
        "organisation": str(device_b.group.organisation_id),
    }
    assert DeviceFilters.of(alice, chosen).contradiction == (
        "The organisation Beta / Beta GmbH does not belong to Acme."
    )


@pytest.mark.parametrize(
    ("name", "value"), [("status", "Odd"), ("revoked", "perhaps"), ("q", "\0")]
)
def test_a_value_that_makes_no_sense_matches_nothing(
    alice: User, device_a: Device, name: str, value: str
) -> None:
    filters = DeviceFilters.of(alice, {name: value})
    assert list(filters.errors) == [name]
    assert not filters.matching().exists()


@pytest.fixture
def described(tenant_a: Tenant, group_a: Group, alice: User) -> list[Device]:
    """Three devices: one, two and three, with tags and values."""
    for name in ("Server", "Berlin"):
        create_tag(tenant_a, name, by=None)
    create_field(tenant_a, "Price", FieldType.NUMBER, by=None)
    create_field(tenant_a, "Site", FieldType.CHOICE, ["Berlin", "Bonn"], by=None)
    create_field(tenant_a, "Rack", FieldType.TEXT, by=None)
    create_field(tenant_a, "Bought", FieldType.DATE, by=None)
    devices = [add(group_a, name) for name in ("one", "two", "three")]
    set_tags(devices[0], ["Server", "Berlin"], by=None)
    set_tags(devices[1], ["Server"], by=None)
    set_values(devices[0], {"Price": 9, "Site": "Bonn", "Rack": "Row 7"}, by=None)
    set_values(devices[1], {"Price": 10.5, "Bought": "2026-01-31"}, by=None)
    return devices


def test_a_device_has_all_the_tags_that_are_asked_for(
    alice: User, described: list[Device], tenant_a: Tenant
) -> None:
    berlin = tenant_a.tags.get(name="Berlin")
    assert named(alice, tag="server") == ["one", "two"]
    assert named(alice, tag=["SERVER", "berlin"]) == ["one"]
    assert named(alice, tag=str(berlin.pk)) == ["one"]
    assert named(alice, tag="") == ["one", "three", "two"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"field.Price": "9"}, ["one"]),
        ({"field.price__gte": "9.5"}, ["two"]),
        ({"field.Price__lte": "9.5"}, ["one"]),
        ({"field.Site": "bonn"}, ["one"]),
        ({"field.Rack": "ROW 7"}, ["one"]),
        ({"field.Rack__contains": "row"}, ["one"]),
        ({"field.Bought__gte": "2026-01-31", "field.Bought__lte": "2026-02-01"}, ["two"]),
        ({"field.Price__empty": "true"}, ["three"]),
        ({"field.Price__empty": "false"}, ["one", "two"]),
        ({"field.Price": ""}, ["one", "three", "two"]),
    ],
)
def test_custom_fields_filter_by_their_type(
    alice: User, described: list[Device], asked: dict[str, str], found: list[str]
) -> None:
    assert named(alice, **asked) == found


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"tag": "nonsense"}, 'There is no tag "nonsense"'),
        ({"field.Colour": "red"}, 'There is no custom field "Colour"'),
        ({"field.Price": "cheap"}, '"cheap" is not a number'),
        ({"field.Rack__gte": "7"}, "has no __gte"),
        ({"field.Price__empty": "maybe"}, "neither true nor false"),
        ({"field.Site": "Paris"}, "is not one of"),
    ],
)
def test_what_no_tag_or_field_could_match_is_an_error(
    alice: User, described: list[Device], asked: dict[str, str], told: str
) -> None:
    filters = DeviceFilters.of(alice, asked)
    assert told in " ".join(filters.errors[next(iter(asked))])
    assert not filters.matching().exists()


def test_tags_and_fields_of_another_tenant_are_unknown(
    charlie: User, described: list[Device], device_b: Device, tenant_a: Tenant
) -> None:
    foreign = str(tenant_a.tags.get(name="Server").pk)
    for asked in ({"tag": "Server"}, {"tag": foreign}, {"field.Price": "9"}):
        assert DeviceFilters.of(charlie, asked).errors
    # Those of the same name in another tenant select nothing of this one.
    create_field(device_b.tenant, "Price", FieldType.NUMBER, by=None)
    create_tag(device_b.tenant, "Server", by=None)
    set_tags(device_b, ["Server"], by=None)
    assert named(charlie, tag="Server") == [device_b.name]
    assert named(charlie, **{"field.Price__empty": "true"}) == [device_b.name]


def test_more_fields_than_are_read_match_no_device(
    alice: User, described: list[Device], tenant_a: Tenant
) -> None:
    asked = {f"field.Price__gte{' ' * number}": "1" for number in range(21)}
    filters = DeviceFilters.of(alice, asked)
    assert "At most 20 filters by custom fields." in str(filters.errors)
    assert not filters.matching().exists()


def test_fields_of_one_name_in_several_tenants_are_asked_together(
    alice: User, described: list[Device], device_b: Device
) -> None:
    set_membership(alice, device_b.tenant, Role.VIEWER)
    create_field(device_b.tenant, "PRICE", FieldType.TEXT, by=None)
    set_values(device_b, {"Price": "9"}, by=None)
    assert named(alice, **{"field.Price": "9"}) == [device_b.name, "one"]


def test_archived_devices_are_out_of_the_fleet_until_they_are_asked_for(
    alice: User, described: list[Device]
) -> None:
    archive_device(described[0], by=None)
    assert named(alice) == ["three", "two"]
    assert named(alice, archived="true") == ["one"]
    assert named(alice, archived="false", tag="Server") == ["two"]


def test_what_is_asked_of_tags_and_fields_is_one_query_each(
    alice: User, described: list[Device], django_assert_num_queries: Any
) -> None:
    asked = {"tag": ["Server", "Berlin"], "field.Price__gte": "1", "field.Rack": "row 7"}
    with django_assert_num_queries(3):
        assert named(alice, **asked) == ["one"]
