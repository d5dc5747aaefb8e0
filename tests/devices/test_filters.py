import pytest

from devices.enrolment.credentials import revoke_device
from devices.filters import DeviceFilters
from devices.models import Connectivity, Device
from tenants.actions.people import set_membership
from tenants.actions.tenants import create_group, create_organisation
from tenants.models import Group, Role, User


def add(group: Group, name: str, **connectivity: object) -> Device:
    device = Device.objects.create(group=group, name=name)
    Connectivity.objects.create(device=device, **connectivity)
    return device


def named(person: User, **data: str) -> list[str]:
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
