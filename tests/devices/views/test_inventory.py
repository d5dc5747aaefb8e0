"""Pages for what people record about devices, and for the tags and fields of a tenant."""

from typing import Any

import pytest
from django.test import Client

from devices.inventory.archive import archive_device
from devices.inventory.custom_fields import create_field, set_values
from devices.inventory.notes import add_note
from devices.inventory.rules import FieldType
from devices.inventory.tags import create_tag, set_tags
from devices.models import BulkCommand, CustomField, Device, Note, Tag
from tenants.models import Group, Role, Tenant, User
from tests.support.people import logged_in, person

pytestmark = pytest.mark.usefixtures("redis_server")


@pytest.fixture
def as_operator(tenant_a: Tenant) -> Client:
    return logged_in(person("olga", tenant_a, Role.OPERATOR))


@pytest.fixture
def described(tenant_a: Tenant, device_a: Device) -> Device:
    """A device with a tag and a value."""
    for name in ("server", "berlin"):
        create_tag(tenant_a, name, by=None)
    create_field(tenant_a, "Price", FieldType.NUMBER, by=None)
    create_field(tenant_a, "Site", FieldType.CHOICE, ["Berlin", "Bonn"], by=None)
    set_tags(device_a, ["server"], by=None)
    set_values(device_a, {"Price": 12.5}, by=None)
    return device_a


def address(device: Device, more: str = "") -> str:
    return f"/devices/{device.pk}/{more}"


def value_inputs(tenant: Tenant) -> dict[str, str]:
    return {field.name: f"value-{field.key}" for field in CustomField.objects.filter(tenant=tenant)}


def test_an_operator_edits_all_but_the_group(
    as_operator: Client, described: Device, tenant_a: Tenant
) -> None:
    inputs = value_inputs(tenant_a)
    form = as_operator.get(address(described, "edit/")).content.decode()
    assert 'value="12.5"' in form
    assert 'name="group"' not in form
    body = {"name": "desk", "tags": ["berlin"], inputs["Price"]: "", inputs["Site"]: "Bonn"}
    assert as_operator.post(address(described, "edit/"), body).status_code == 302
    page = as_operator.get(address(described)).content.decode()
    for shown in ("<h1>desk</h1>", '<span class="tag">berlin</span>', "<dt>Site</dt><dd>Bonn</dd>"):
        assert shown in page
    assert "<dt>Price</dt>" not in page


def test_an_error_is_shown_beside_its_field_and_nothing_is_changed(
    as_alice: Client, described: Device, group_b: Group, tenant_a: Tenant
) -> None:
    wrong = {"name": "", "tags": ["nonsense"], value_inputs(tenant_a)["Price"]: "cheap"}
    answer = as_alice.post(address(described, "edit/"), wrong | {"group": str(group_b.pk)})
    assert answer.status_code == 422
    errors = answer.context["form"].errors
    assert set(errors) == {"name", "tags", "group", value_inputs(tenant_a)["Price"]}
    described.refresh_from_db()
    assert described.name == "anna-laptop"


def test_notes_are_written_listed_and_deleted(
    as_operator: Client, as_alice: Client, as_bob: Client, described: Device, alice: User
) -> None:
    note = add_note(described, "<b>Second floor</b>", by=alice)
    written = as_operator.post(address(described, "notes/"), {"text": "The key is here."})
    assert written.status_code == 302
    for client in (as_operator, as_bob):
        page = client.get(address(described, "details/")).content.decode()
        assert "&lt;b&gt;Second floor" in page
        assert "The key is here." in page
        assert (f"notes/{note.pk}/delete" in page) is False
    delete = address(described, f"notes/{note.pk}/delete/")
    assert as_operator.post(delete).status_code == 403
    assert as_bob.post(address(described, "notes/"), {"text": "x"}).status_code == 403
    assert as_operator.post(address(described, "notes/"), {"text": " "}).status_code == 422
    assert as_alice.post(delete).status_code == 302
    assert [each.text for each in Note.objects.all()] == ["The key is here."]


def test_an_archived_device_is_out_of_the_fleet_and_says_so_on_its_page(
    as_alice: Client, described: Device
) -> None:
    asked = as_alice.post(address(described, "archive/"), {"reason": "sold"})
    assert asked.status_code == 302
    page = as_alice.get(address(described)).content.decode()
    assert "This device is archived" in page
    assert "sold" in page
    assert "Bring back…" in page
    tenant = as_alice.get(f"/tenant/{described.tenant_id}/").content.decode()
    assert f'?tenant={described.tenant_id}&amp;archived=true">1 archived</a>' in tenant
    assert b"anna-laptop" not in as_alice.get("/").content
    assert b"anna-laptop" in as_alice.get("/?archived=true").content
    assert as_alice.post(address(described, "unarchive/")).status_code == 302
    assert b"anna-laptop" in as_alice.get("/").content


@pytest.mark.parametrize("what", ["edit/", "archive/", "unarchive/", "notes/", "details/"])
def test_an_outsider_finds_nothing_and_a_viewer_changes_nothing(
    as_charlie: Client, as_bob: Client, described: Device, what: str
) -> None:
    for client, status in ((as_charlie, 404), (as_bob, 405 if what == "details/" else 403)):
        assert client.post(address(described, what)).status_code in (status, 405)
    assert as_charlie.get(address(described)).status_code == 404


def test_the_fleet_shows_tags_and_filters_by_them_and_by_fields(
    as_alice: Client, described: Device, group_a: Group
) -> None:
    Device.objects.create(group=group_a, name="berta")
    page = as_alice.get("/").content.decode()
    assert '<span class="tag">server</span>' in page
    for offered in ('value="berlin"', 'name="field.Price__gte"', 'name="field.Site"'):
        assert offered in page

    def named(query: str) -> list[str]:
        rows = as_alice.get(f"/{query}").context["rows"]
        return [device.name for device, *_ in rows]

    assert named("?tag=server") == named("?field.Price__gte=12") == ["anna-laptop"]
    assert named("?tag=server&tag=berlin") == []
    assert named("?field.Site=Bonn") == []
    assert named("?field.Price__gte=&field.Site=") == ["anna-laptop", "berta"]
    chosen = as_alice.get("/?tag=server&field.Price__gte=12").content.decode()
    assert 'value="server" checked' in chosen
    assert 'value="12"' in chosen


def test_a_bulk_command_goes_to_devices_of_a_tag_and_a_field(
    as_alice: Client, described: Device, group_a: Group
) -> None:
    other = Device.objects.create(group=group_a, name="other")
    set_tags(other, ["server"], by=None)
    body = {"target": "filter", "tag": ["server"], "field.Price__gte": "12", "command": "ping"}
    page = as_alice.get("/commands/new/", body).content.decode()
    assert 'value="server" checked' in page
    posted = as_alice.post("/commands/new/", body)
    assert posted.status_code == 302, posted.content
    issued = BulkCommand.objects.get()
    assert issued.total == 1
    assert issued.target == "devices tagged server with Price__gte 12"


def test_an_admin_defines_tags_and_fields(
    as_alice: Client, as_bob: Client, as_charlie: Client, tenant_a: Tenant, device_a: Device
) -> None:
    base = f"/tenant/{tenant_a.pk}/"
    empty = as_alice.get(f"{base}definitions/").content.decode()
    assert "There are no tags yet" in empty
    assert "There are no custom fields yet" in empty

    def post(path: str, **body: Any) -> int:
        return int(as_alice.post(f"{base}{path}", body).status_code)

    assert post("tags/new/", name="server") == 302
    assert post("tags/new/", name="SERVER") == 409
    assert post("fields/new/", name="Site", type="choice", choices="Berlin\nBonn\n") == 302
    assert post("fields/new/", name="Room", type="choice", choices="") == 409
    tag, field = Tag.objects.get(), CustomField.objects.get()
    assert field.choices == ["Berlin", "Bonn"]
    set_tags(device_a, ["server"], by=None)
    shown = as_alice.get(f"{base}definitions/").content.decode()
    assert f"/?tenant={tenant_a.pk}&amp;tag=server" in shown
    assert post(f"tags/{tag.pk}/rename/", name="host") == 302
    assert post(f"fields/{field.pk}/change/", name="Place", choices="Bonn") == 302
    for stranger, status in ((as_bob, 403), (as_charlie, 404)):
        for path in ("definitions/", "tags/new/", f"tags/{tag.pk}/delete/"):
            assert stranger.get(f"{base}{path}").status_code == status
    field.refresh_from_db()
    assert (field.name, field.choices) == ("Place", ["Bonn"])
    assert post(f"tags/{tag.pk}/delete/") == post(f"fields/{field.pk}/delete/") == 302
    assert not Tag.objects.exists()
    assert not CustomField.objects.exists()


def test_a_tag_of_another_tenant_is_not_found_below_ones_own(
    as_alice: Client, tenant_a: Tenant, tenant_b: Tenant
) -> None:
    foreign = create_tag(tenant_b, "secret", by=None)
    path = f"/tenant/{tenant_a.pk}/tags/{foreign.pk}/delete/"
    assert as_alice.post(path).status_code == 404
    assert Tag.objects.filter(pk=foreign.pk).exists()


def test_an_archived_device_takes_no_command_on_its_page(
    as_alice: Client, described: Device
) -> None:
    archive_device(described, by=None)
    page = as_alice.get(address(described)).content.decode()
    assert "An archived device does not accept commands" in page
