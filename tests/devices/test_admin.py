"""The admin's pages of devices and commands, and its first page."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django.fixtures import Settings

from devices.commands import issue as commands
from devices.errors import DeviceCannotMove
from devices.inventory.custom_fields import create_field
from devices.inventory.details import move_device
from devices.inventory.notes import add_note
from devices.inventory.rules import FieldType
from devices.inventory.tags import create_tag
from devices.models import Command, CommandState, Connectivity, Device, RealtimeData
from natsbridge.models import DeadLetter, Pruning
from natsbridge.subscriber import status
from tenants.actions.people import set_membership
from tenants.actions.tenants import create_group, create_organisation, create_tenant
from tenants.models import Group, Role, Tenant, User
from tests.support.people import enrol

DEVICES = reverse("admin:devices_device_changelist")
COMMANDS = reverse("admin:devices_command_changelist")
INDEX = reverse("admin:index")


@pytest.fixture
def staff(client: Client, db: None) -> User:
    user = User.objects.create_superuser("sam")
    client.force_login(user)
    return user


@pytest.fixture
def listening(db: None) -> None:
    """Some subscriber hears what devices say."""
    status.beat("alpha", started_at=timezone.now(), connected=True, details={})


def page_of(row: Device | Command, view: str = "change") -> str:
    return reverse(f"admin:devices_{row._meta.model_name}_{view}", args=[row.pk])


def log_in_with(client: Client, *permissions: str) -> None:
    user = User.objects.create_user("stella", is_staff=True)
    for codename in permissions:
        user.user_permissions.add(Permission.objects.get(codename=codename))
    client.force_login(user)


def seen(device: Device, ago: timedelta) -> None:
    Connectivity.objects.filter(device=device).update(last_seen_online=timezone.now() - ago)


def queries_of(client: Client, address: str) -> list[str]:
    # The first page of a session notes where it is used.
    client.get(address)
    with CaptureQueriesContext(connection) as queries:
        assert client.get(address).status_code == 200
    return [query["sql"] for query in queries]


@pytest.mark.parametrize("address", [DEVICES, COMMANDS])
def test_the_lists_are_for_staff_with_the_permission(
    client: Client, db: None, address: str
) -> None:
    assert client.get(address).headers["Location"].startswith("/admin/login/")
    log_in_with(client)
    assert client.get(address).status_code == 403


@pytest.mark.parametrize("address", [DEVICES, COMMANDS])
def test_a_longer_list_takes_no_more_queries(
    client: Client, staff: User, listening: None, group_a: Group, address: str
) -> None:
    def fill(number: int) -> None:
        tenant = create_tenant(name=f"tenant {number}")
        organisation = create_organisation(tenant, name="organisation")
        group = create_group(organisation, name="group")
        device = enrol(group, f"computer {number}").device
        user = User.objects.create_user(f"user {number}")
        commands.issue(device, "ping", {}, by=user)

    for number in range(2):
        fill(number)
    few = queries_of(client, address)
    for number in range(2, 7):
        fill(number)
    assert len(queries_of(client, address)) == len(few)


@pytest.mark.parametrize(
    ("ago", "word"),
    [
        (timedelta(seconds=10), "Online"),
        (timedelta(minutes=5), "Stale"),
        (timedelta(hours=1), "Offline"),
    ],
)
def test_a_device_is_listed_with_its_status(
    client: Client, staff: User, listening: None, device_a: Device, ago: timedelta, word: str
) -> None:
    seen(device_a, ago)
    assert listed(client) == {"anna-laptop": word}
    assert word in client.get(page_of(device_a)).content.decode().split()
    assert listed(client, status=word) == {"anna-laptop": word}
    for other in {"Online", "Stale", "Offline", "Unknown"} - {word}:
        assert listed(client, status=other) == {}


def test_with_nobody_listening_the_status_is_unknown(
    client: Client, staff: User, device_a: Device
) -> None:
    seen(device_a, timedelta(seconds=10))
    assert listed(client) == {"anna-laptop": "Unknown"}
    assert listed(client, status="Unknown") == {"anna-laptop": "Unknown"}


def listed(client: Client, **filters: object) -> dict[str, str]:
    """The devices on the list, each with its status."""
    changes = client.get(DEVICES, filters).context["cl"]
    status_of = next(column for column in changes.list_display if callable(column))
    return {
        device.name: " ".join(status_of(device).rpartition("</")[0].rpartition(">")[2].split())
        for device in changes.result_list
    }


def test_who_was_listening_is_asked_once_for_a_list(
    client: Client, staff: User, listening: None, group_a: Group
) -> None:
    for name in "abc":
        enrol(group_a, name)
    asked = [sql for sql in queries_of(client, DEVICES) if "natsbridge_coverage" in sql]
    assert len(asked) == 1


def test_devices_are_filtered_by_tenant_group_and_version(
    client: Client, staff: User, device_a: Device, device_b: Device
) -> None:
    Connectivity.objects.filter(device=device_b).update(agent_version="2.0")
    assert set(listed(client, tenant__uuid__exact=device_a.tenant_id)) == {"anna-laptop"}
    assert set(listed(client, group=device_b.group_id)) == {"berta-server"}
    assert set(listed(client, connectivity__agent_version="2.0")) == {"berta-server"}
    assert not listed(client, group="nonsense")
    assert not listed(client, status="nonsense")


def test_the_chosen_tenant_narrows_the_groups_and_a_contradiction_says_so(
    client: Client, staff: User, device_a: Device, device_b: Device
) -> None:
    def groups(answer: Any) -> list[str]:
        [found] = [spec for spec in answer.context["cl"].filter_specs if spec.title == "group"]
        return [name for _, name in found.lookup_choices]

    laptops, servers = "Acme / Acme Ltd / Laptops", "Beta / Beta GmbH / Servers"
    acme = {"tenant__uuid__exact": device_a.tenant_id}
    assert groups(client.get(DEVICES)) == [laptops, servers]
    assert groups(client.get(DEVICES, acme)) == [laptops]
    contradicting = acme | {"group": device_b.group_id}
    answer = client.get(DEVICES, contradicting)
    assert groups(answer) == [laptops, servers], "the chosen one stays in sight"
    assert answer.content.decode().count(f"The group {servers} is not one of the chosen") == 1
    assert not listed(client, **contradicting)


def test_devices_are_found_by_name_uuid_and_key(
    client: Client, staff: User, device_a: Device, device_b: Device
) -> None:
    for words in ("LAPTOP", device_a.pk, device_a.nkey_public):
        assert set(listed(client, q=words)) == {"anna-laptop"}
    assert listed(client, q=uuid4()) == {}


def test_a_device_leads_to_its_live_page_and_its_commands(
    client: Client, staff: User, device_a: Device, device_b: Device
) -> None:
    live = reverse("device", args=[device_a.pk])
    assert f'href="{live}"' in client.get(DEVICES).content.decode()
    assert client.get(page_of(device_a, "open_live_page")).headers["Location"] == live
    for device in (device_a, device_b):
        commands.issue(device, "ping", {}, by=staff)
    response = client.get(page_of(device_a, "list_commands"), follow=True)
    assert [row.device for row in response.context["cl"].result_list] == [device_a]


def test_a_devices_page_shows_what_its_agent_said(
    client: Client, staff: User, device_a: Device
) -> None:
    Connectivity.objects.filter(device=device_a).update(
        agent_version="1.2.3", connection_info={"hostname": "<b>anna</b>"}
    )
    RealtimeData.objects.create(
        device=device_a,
        kind="monitoring:disks",
        data={"sda": "healthy"},
        received_at=timezone.now(),
    )
    page = client.get(page_of(device_a)).content.decode()
    assert "1.2.3" in page
    assert "&lt;b&gt;anna&lt;/b&gt;" in page
    assert "<b>anna" not in page
    assert "monitoring:disks" in page
    assert "&quot;sda&quot;" not in page, "its own page has it"
    latest = reverse("admin:devices_realtimedata_change", args=[RealtimeData.objects.get().pk])
    assert f'href="{latest}"' in page
    assert "&quot;sda&quot;: &quot;healthy&quot;" in client.get(latest).content.decode()


def test_who_sees_devices_sees_what_their_agents_said_and_changes_nothing(
    client: Client, device_a: Device
) -> None:
    Connectivity.objects.filter(device=device_a).update(agent_version="1.2.3")
    log_in_with(client, "view_device")
    assert b"1.2.3" in client.get(page_of(device_a)).content
    assert client.post(page_of(device_a), {"group": device_a.group_id}).status_code == 403


def move(client: Client, device: Device, group: Group) -> dict[str, list[str]]:
    """Sends the form; the errors it answers with."""
    parts: dict[str, object] = {
        f"{prefix}-{count}": 0
        for prefix in ("connectivity", "realtime_data")
        for count in ("TOTAL_FORMS", "INITIAL_FORMS")
    }
    response = client.post(page_of(device), {"group": group.pk, "name": "other", **parts})
    if response.status_code == 302:
        return {}
    errors: dict[str, list[str]] = response.context["adminform"].form.errors
    return errors


def test_a_device_moves_within_its_tenant(client: Client, staff: User, device_a: Device) -> None:
    there = create_group(device_a.group.organisation, name="Desktops")
    assert move(client, device_a, there) == {}
    moved = Device.objects.get()
    assert (moved.group, moved.name) == (there, "anna-laptop")


def test_a_device_does_not_move_to_another_tenant(
    client: Client, staff: User, device_a: Device, group_b: Group
) -> None:
    errors = move(client, device_a, group_b)
    assert errors["group"] == [
        "A device stays within its tenant: choose one of the tenant's own groups."
    ]
    with pytest.raises(DeviceCannotMove):
        move_device(device_a, group_b, by=None)
    assert Device.objects.get().group == device_a.group


def test_a_device_that_is_registered_elsewhere_is_put_on_record(
    client: Client, staff: User, group_a: Group, settings: Settings
) -> None:
    uuid = uuid4()
    form = {"group": group_a.pk, "name": "old-pi", "connection_type": "node-red"}
    add = reverse("admin:devices_device_add")
    assert client.get(add).status_code == 200
    assert client.post(add, {**form, "device_uuid": uuid}).status_code == 302
    device = Device.objects.get()
    assert (device.pk, device.name, device.tenant) == (uuid, "old-pi", group_a.tenant)
    assert device.connectivity.connection_type == "node-red"
    again = client.post(add, {**form, "device_uuid": uuid})
    assert again.context["adminform"].form.errors.keys() == {"device_uuid"}
    assert client.post(add, {**form, "connection_type": "x" * 21}).status_code == 200
    settings.TENANT_MAX_DEVICES = 1
    full = client.post(add, form)
    assert "limit of devices, 1." in full.context["adminform"].form.errors["group"][0]
    log_in_with(client, "view_device", "change_device")
    assert client.post(add, form).status_code == 403
    assert Device.objects.count() == 1


def test_only_a_superuser_deletes_a_device(client: Client, device_a: Device) -> None:
    log_in_with(client, "view_device", "change_device", "delete_device")
    assert client.post(page_of(device_a, "delete"), {"post": "yes"}).status_code == 403
    assert Device.objects.exists()


def test_a_deleted_device_takes_its_commands_with_it(
    client: Client, staff: User, device_a: Device
) -> None:
    for _ in range(3):
        commands.issue(device_a, "ping", {}, by=staff)
    question = client.get(page_of(device_a, "delete"))
    assert dict(question.context["model_count"]) == {"devices": 1, "commands": 3}
    assert Device.objects.exists()
    client.post(page_of(device_a, "delete"), {"post": "yes"})
    assert not Device.objects.exists()
    assert not Command.objects.exists()


def finished(device: Device, by: User, result: object = None, error: str = "") -> Command:
    command = commands.issue(device, "ping", {"count": 3}, by=by)
    command.state = CommandState.FAILED if error else CommandState.SUCCEEDED
    command.result, command.error = result, error
    command.save()
    return command


def test_a_commands_page_shows_its_result(client: Client, staff: User, device_a: Device) -> None:
    command = finished(device_a, staff, {"html": "<script>"})
    page = client.get(page_of(command)).content.decode()
    assert "Succeeded" in page.split()
    assert "&quot;html&quot;: &quot;&lt;script&gt;&quot;" in page
    assert "&quot;count&quot;: 3" in page


def test_a_commands_page_shows_its_error(client: Client, staff: User, device_a: Device) -> None:
    command = finished(device_a, staff, error="no\n<such> tool")
    assert "no\n&lt;such&gt; tool" in client.get(page_of(command)).content.decode()


def test_staff_who_are_operators_cancel_and_retry_and_others_are_told_why_not(
    client: Client, staff: User, tenant_a: Tenant, device_a: Device, redis_server: object
) -> None:
    command = commands.issue(device_a, "ping", {}, by=staff)
    assert "/retry" not in client.get(page_of(command)).content.decode()
    cancel = reverse("admin:devices_command_cancel", args=[command.pk])
    assert "needs the role operator" in client.post(cancel).content.decode()
    set_membership(staff, tenant_a, Role.OPERATOR)
    client.post(cancel)
    command.refresh_from_db()
    assert command.state == CommandState.CANCELLED
    retry = reverse("admin:devices_command_retry", args=[command.pk])
    assert retry in client.get(page_of(command)).content.decode()
    client.post(retry)
    assert Command.objects.get(retry_of=command).state == CommandState.QUEUED
    Device.objects.update(revoked_at=timezone.now())
    assert retry not in client.get(page_of(command)).content.decode()
    Device.objects.update(revoked_at=None)
    Tenant.objects.update(suspended_at=timezone.now())
    assert retry not in client.get(page_of(command)).content.decode()


def test_staff_see_that_a_sent_commands_device_is_gone_and_give_it_up(
    client: Client,
    staff: User,
    tenant_a: Tenant,
    device_a: Device,
    redis_server: object,
    listening: None,
) -> None:
    command = commands.issue(device_a, "ping", {}, by=staff)
    Command.objects.update(state=CommandState.SENT, sent_at=timezone.now())
    Connectivity.objects.update(presence="offline", presence_at=datetime(2026, 1, 2, tzinfo=UTC))
    page = client.get(page_of(command)).content.decode()
    give_up = reverse("admin:devices_command_give_up", args=[command.pk])
    assert give_up in page
    assert reverse("admin:devices_command_cancel", args=[command.pk]) not in page
    assert "2026" in page.partition("Device offline since")[2][:600]
    assert "needs the role operator" in client.post(give_up).content.decode()
    set_membership(staff, tenant_a, Role.OPERATOR)
    client.post(give_up)
    command.refresh_from_db()
    assert (command.state, command.error) == (CommandState.FAILED, f"given up by {staff}")


def test_a_command_names_its_author_or_the_platform(
    client: Client, staff: User, device_a: Device
) -> None:
    command = finished(device_a, staff)
    assert f">{staff}</a>" in client.get(page_of(command)).content.decode()
    Command.objects.update(created_by=None, by_platform=True)
    for address in (page_of(command), COMMANDS):
        assert "by the platform" in client.get(address).content.decode()


def test_selected_devices_are_sent_a_command_on_the_page_for_that(
    client: Client, staff: User, device_a: Device
) -> None:
    body = {"action": "command_selected", "_selected_action": [device_a.pk]}
    answer = client.post(DEVICES, body)
    assert answer["Location"] == f"/commands/new/?target=devices&devices={device_a.pk}"


def test_nobody_changes_a_command(client: Client, staff: User, device_a: Device) -> None:
    command = commands.issue(device_a, "ping", {}, by=staff)
    assert client.post(page_of(command), {"state": "failed"}).status_code == 403
    assert client.post(page_of(command, "delete"), {"post": "yes"}).status_code == 403
    assert client.get(reverse("admin:devices_command_add")).status_code == 403


def test_the_list_of_commands_neither_counts_them_nor_reads_their_results(
    client: Client, staff: User, device_a: Device
) -> None:
    finished(device_a, staff, {"big": "result"})
    asked = [sql for sql in queries_of(client, COMMANDS) if "devices_command" in sql]
    assert len(asked) == 1
    assert "COUNT" not in asked[0]
    assert '"result"' not in asked[0]


def test_commands_are_filtered_and_searched(
    client: Client, staff: User, device_a: Device, device_b: Device
) -> None:
    first = finished(device_a, staff)
    second = finished(device_b, staff, error="no such tool")

    def found(**filters: object) -> list[Command]:
        return list(client.get(COMMANDS, filters).context["cl"].result_list)

    assert found() == [second, first]
    assert found(state__exact="failed") == [second]
    assert found(device__tenant__uuid__exact=device_a.tenant_id) == [first]
    assert found(command__icontains="pong") == []
    assert found(q=first.uuid) == found(q=device_a.pk) == found(q="laptop") == [first]


def test_the_first_page_tells_how_things_stand(
    client: Client, staff: User, listening: None, device_a: Device, device_b: Device
) -> None:
    seen(device_a, timedelta(0))
    commands.issue(device_a, "ping", {}, by=staff)
    finished(device_a, staff)
    for age in (timedelta(0), timedelta(days=2)):
        DeadLetter.objects.create(
            dead_lettered_at=timezone.now() - age,
            received_at=timezone.now(),
            subject="tenant.x",
            body=b"{",
            reason="malformed",
            detail="",
        )
    assert figures(client) == {
        "Devices": {"Online": 1, "Stale": 0, "Offline": 1, "Unknown": 0},
        "Commands": {"Queued": 1, "Sent": 0, "Delivered": 0},
        "Subscribers": {"Running": 1},
        "Dead letters in 24 hours": {"malformed": 1},
        "Old rows deleted": {"Never yet": 0},
    }


def test_the_first_page_tells_when_old_rows_were_removed_and_whether_all_could_be(
    client: Client, staff: User
) -> None:
    at = datetime(2026, 3, 4, 3, 5, tzinfo=UTC)
    outcome = {"sessions": {"rows": 7, "problem": ""}, "commands": {"rows": 2, "problem": "Gone."}}
    row = Pruning.objects.create(began_at=at, finished_at=at, outcome=outcome)
    assert figures(client)["Old rows deleted"] == {"4 Mar, 03:05": 9}
    page = client.get(reverse("admin:natsbridge_pruning_change", args=[row.pk])).content.decode()
    assert "Failed: commands" in page
    assert "Gone." in page


def figures(client: Client) -> dict[str, dict[str, int]]:
    shown = client.get(INDEX).context["figures"]
    return {title: {figure.title: figure.value for figure in part} for title, part in shown}


@pytest.mark.parametrize(
    ("connected", "shown"), [(True, {"Running": 1}), (False, {"Running, but not connected": 1})]
)
def test_the_first_page_tells_whether_somebody_listens(
    client: Client, staff: User, connected: bool, shown: dict[str, int]
) -> None:
    assert figures(client)["Subscribers"] == {"Running": 0}
    status.beat("alpha", started_at=timezone.now(), connected=connected, details={})
    assert figures(client)["Subscribers"] == shown


def test_every_figure_leads_to_its_list(client: Client, staff: User, device_a: Device) -> None:
    for _, part in client.get(INDEX).context["figures"]:
        for figure in part:
            assert client.get(figure.link).status_code == 200, figure


def test_the_first_page_shows_what_one_may_see(client: Client, device_a: Device) -> None:
    log_in_with(client, "view_command")
    assert set(figures(client)) == {"Commands"}
    page = client.get(INDEX).content.decode()
    assert COMMANDS in page
    assert DEVICES not in page


def test_the_side_bar_leads_to_pages_that_open(client: Client, staff: User) -> None:
    sections = client.get(INDEX).context["sidebar_navigation"]
    links = [item["link"] for section in sections for item in section["items"]]
    assert len(links) == 22
    for link in links:
        assert client.get(link).status_code == 200, link


def test_staff_read_tags_fields_and_notes_and_change_none_of_them(
    admin_client: Client, device_a: Device, tenant_a: Tenant, alice: User
) -> None:
    rows = {
        "tag": create_tag(tenant_a, "server", by=None),
        "customfield": create_field(tenant_a, "Price", FieldType.NUMBER, by=None),
        "note": add_note(device_a, "The key is at the reception.", by=alice),
    }
    for name, row in rows.items():
        base = f"/admin/devices/{name}/"
        assert admin_client.get(base).status_code == 200
        assert str(row.pk) in admin_client.get(f"{base}{row.pk}/change/").content.decode()
        assert admin_client.get(f"{base}add/").status_code == 403
        assert admin_client.post(f"{base}{row.pk}/delete/").status_code == 403
