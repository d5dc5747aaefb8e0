"""The pages on which one command is sent to many devices, and its progress is watched."""

import re
from datetime import timedelta
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from devices.commands import bulk, delivery, targets
from devices.models import BulkCommand, Command, CommandState, Connectivity, Device
from tenants.actions.people import set_membership
from tenants.models import Group, Role, Tenant, User
from tests.support.many import many_devices, online, some_offline

pytestmark = pytest.mark.usefixtures("redis_server", "listening")

FRAGMENT = {"HX-Request": "true"}


def form(group: Group, **fields: object) -> dict[str, object]:
    return {"target": "group", "to_group": group.pk, "command": "ping", **fields}


def issued(group: Group, by: User) -> BulkCommand:
    return bulk.issue(targets.of_group(by, group.pk), "ping", {}, by=by)[0]


def shown(client: Client, row: BulkCommand, query: str = "") -> str:
    answer = client.get(f"/commands/{row.uuid}/{query}")
    assert answer.status_code == 200
    return answer.content.decode()


def figure(page: str, state: str) -> int:
    found = re.search(rf'id="state-{state}".*?<strong>([\d,]+)</strong>', page)
    assert found
    return int(found[1].replace(",", ""))


def test_a_command_goes_to_a_group_and_its_page_shows_it(
    as_alice: Client, device_a: Device, group_a: Group
) -> None:
    answer = as_alice.post("/commands/new/", form(group_a, deadline="86400"))
    row = BulkCommand.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, f"/commands/{row.uuid}/")
    assert row.deadline - timezone.now() > timedelta(hours=23)
    page = shown(as_alice, row)
    assert "anna-laptop" in page
    assert "group Laptops" in page
    assert 'hx-trigger="every 1s"' in page
    assert f"/commands/{row.uuid}/" in as_alice.get("/commands/").content.decode()


def test_the_same_form_sent_twice_is_one_command(
    as_alice: Client, device_a: Device, group_a: Group
) -> None:
    first, second = (as_alice.post("/commands/new/", form(group_a, key="k")) for _ in range(2))
    assert first["Location"] == second["Location"]
    assert Command.objects.count() == 1


def test_the_preview_says_who_gets_it_before_anything_is_sent(
    as_alice: Client, device_a: Device, group_a: Group
) -> None:
    other = Device.objects.create(group=group_a, name="other", revoked_at=timezone.now())
    offering = {"commands": [{"name": "ping"}]}
    Connectivity.objects.create(device=Device.objects.create(group=group_a, name="third"))
    online(device_a, capabilities=offering)
    page = as_alice.get("/commands/new/", form(group_a), headers=FRAGMENT).content.decode()
    assert "<html" not in page
    assert re.search(r'figure">2</strong>', page)
    assert "Revoked</dt><dd>1<" in page
    without_script = as_alice.post("/commands/new/", form(group_a, preview="1"))
    assert b'figure">2</strong>' in without_script.content
    assert not BulkCommand.objects.exists()
    assert other.revoked_at


def test_the_fleets_filters_lead_to_the_form_and_are_its_target(
    as_alice: Client, device_a: Device, group_a: Group
) -> None:
    Device.objects.create(group=group_a, name="zebra")
    link = re.search(r'id="to-these" href="([^"]+)"', as_alice.get("/?q=zeb").content.decode())
    assert link
    page = as_alice.get(link[1].replace("&amp;", "&"), {}).content.decode()
    assert re.search(r'value="filter"[^>]* checked', page)
    assert 'value="zeb"' in page
    as_alice.post("/commands/new/", {"target": "filter", "q": "zeb", "command": "ping"})
    assert Command.objects.get().device.name == "zebra"
    assert BulkCommand.objects.get().target == "devices that match “zeb”"


def test_a_filter_that_contradicts_itself_says_so_and_sends_nothing(
    as_alice: Client, alice: User, device_a: Device, device_b: Device
) -> None:
    set_membership(alice, device_b.tenant, Role.OPERATOR)
    fields = {"target": "filter", "tenant": device_b.tenant_id, "group": device_a.group_id}
    words = "The group Acme / Acme Ltd / Laptops does not belong to Beta."
    assert words in as_alice.get("/commands/new/", fields).content.decode()
    answer = as_alice.post("/commands/new/", fields | {"command": "ping"})
    assert (answer.status_code, words in answer.content.decode()) == (422, True)
    assert not BulkCommand.objects.exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"target": ""},
        {"command": ""},
        {"to_group": uuid4()},
        {"target": "devices", "devices": ""},
        {"target": "devices", "devices": "nonsense"},
        {"target": "devices", "devices": str(uuid4())},
        {"target": "filter", "q": "no such device"},
        {"deadline": "1"},
    ],
)
def test_what_cannot_be_sent_comes_back_with_the_reason(
    as_alice: Client, device_a: Device, group_a: Group, fields: dict[str, object]
) -> None:
    answer = as_alice.post("/commands/new/", form(group_a) | fields)
    assert answer.status_code == 422
    assert re.search(r'class="(error|bad|warning)"|required', answer.content.decode())
    assert not Command.objects.exists()


def test_a_viewer_looks_and_may_not_act_and_another_tenant_sees_nothing(
    as_alice: Client,
    as_bob: Client,
    as_charlie: Client,
    client: Client,
    alice: User,
    device_a: Device,
    group_a: Group,
) -> None:
    row = issued(group_a, alice)
    path = f"/commands/{row.uuid}/"
    assert "Cancel the" not in shown(as_bob, row)
    assert "New command" not in as_bob.get("/commands/").content.decode()
    assert as_bob.get("/commands/new/").status_code == 403
    assert as_bob.post("/commands/new/", form(group_a)).status_code == 403
    assert as_charlie.post("/commands/new/", form(group_a)).status_code == 422
    assert str(row.uuid) not in as_charlie.get("/commands/").content.decode()
    assert as_charlie.get(path).status_code == 404
    for verb in ("cancel", "retry"):
        assert as_bob.post(f"{path}{verb}/").status_code == 403
        assert as_charlie.post(f"{path}{verb}/").status_code == 404
        assert client.post(f"{path}{verb}/").status_code == 302
        assert as_alice.get(f"{path}{verb}/").status_code == 405
    assert Command.objects.get().state == CommandState.QUEUED
    assert BulkCommand.objects.count() == 1


def test_a_viewers_devices_are_left_out_of_what_a_filter_finds(
    as_alice: Client, alice: User, device_a: Device, device_b: Device, tenant_b: Tenant
) -> None:
    set_membership(alice, tenant_b, Role.VIEWER)
    fields = {"target": "filter", "command": "ping"}
    assert b"Not allowed</dt><dd>1<" in as_alice.get("/commands/new/", fields).content
    as_alice.post("/commands/new/", fields)
    assert Command.objects.get().device == device_a
    set_membership(alice, tenant_b, Role.OPERATOR)
    assert "several tenants" in as_alice.post("/commands/new/", fields).content.decode()
    assert Command.objects.count() == 1


def test_a_thousand_devices_a_third_of_them_offline_add_up_on_the_page(
    as_alice: Client, alice: User, group_a: Group
) -> None:
    devices = many_devices(group_a, 1000)
    offline = some_offline(devices, 333)
    page = as_alice.get("/commands/new/", form(group_a), headers=FRAGMENT).content.decode()
    assert "667 get it at once" in page
    assert "333 get it if they come back" in page
    as_alice.post("/commands/new/", form(group_a))
    row = BulkCommand.objects.get()
    while delivery.claim_due():
        pass
    sent = Command.objects.filter(state=CommandState.SENT)
    ended = list(sent.values_list("pk", flat=True)[:400])
    Command.objects.filter(pk__in=ended[:300]).update(state=CommandState.SUCCEEDED)
    Command.objects.filter(pk__in=ended[300:]).update(state=CommandState.FAILED)
    page = shown(as_alice, row)
    states = {state: figure(page, state) for state in CommandState}
    assert states == dict.fromkeys(CommandState, 0) | {
        "queued": len(offline),
        "sent": 267,
        "succeeded": 300,
        "failed": 100,
    }
    assert sum(states.values()) == figure(page, "all") == row.total == 1000
    assert len(re.findall("<tr>", shown(as_alice, row, "?state=failed&page=2"))) == 51
    as_alice.post(f"/commands/{row.uuid}/cancel/")
    assert figure(shown(as_alice, row), "cancelled") == 333
    as_alice.post(f"/commands/{row.uuid}/retry/")
    again = BulkCommand.objects.first()
    assert again
    assert (again.total, again.retry_of) == (100, row)
    assert as_alice.post(f"/commands/{row.uuid}/retry/").status_code == 409


def test_one_device_is_told_of_in_the_singular(
    as_alice: Client, alice: User, group_a: Group
) -> None:
    devices = many_devices(group_a, 2)
    some_offline(devices, 1)
    page = as_alice.get("/commands/new/", form(group_a), headers=FRAGMENT).content.decode()
    assert "1 gets it at once" in page
    assert "1 gets it if it comes back in time" in page
    row = issued(group_a, alice)
    Command.objects.filter(device=devices[0]).update(state=CommandState.SUCCEEDED)
    assert "Cancel the 1 that is waiting</button>" in shown(as_alice, row)


def test_only_what_has_ended_fills_the_bar(as_alice: Client, alice: User, group_a: Group) -> None:
    many_devices(group_a, 4)
    row = issued(group_a, alice)
    first, *_ = Command.objects.values_list("pk", flat=True)
    Command.objects.update(state=CommandState.SENT)
    Command.objects.filter(pk=first).update(state=CommandState.SUCCEEDED)
    for page in (shown(as_alice, row), as_alice.get("/commands/").content.decode()):
        assert re.findall(r'<rect class="([\w-]+)" x="(\d+)" width="(\d+)"', page) == [
            ("is-succeeded", "0", "250")
        ]
        assert 'aria-label="1 of 4 ended"' in page


def test_the_button_says_what_is_cancelled_and_what_is_given_up(
    as_alice: Client, alice: User, group_a: Group
) -> None:
    devices = many_devices(group_a, 5)
    row = issued(group_a, alice)
    assert "Cancel the 5 that are waiting</button>" in shown(as_alice, row)
    sent = Command.objects.filter(device__in=devices[:3])
    sent.update(state=CommandState.SENT, sent_at=timezone.now())
    some_offline(devices, 2)
    page = shown(as_alice, row)
    assert "Cancel the 2 that are waiting, give up the 2 sent to offline devices<" in page
    assert page.count("device offline since") == 2
    as_alice.post(f"/commands/{row.uuid}/cancel/")
    page = shown(as_alice, row)
    assert [figure(page, state) for state in ("cancelled", "failed", "sent")] == [2, 2, 1]
    assert 'id="cancel-bulk"' not in page
    some_offline(devices, 3)
    assert "Give up the 1 sent to offline devices<" in shown(as_alice, row)


def test_a_page_on_which_nothing_is_open_asks_no_more(
    as_alice: Client, alice: User, device_a: Device, group_a: Group
) -> None:
    row = issued(group_a, alice)
    assert as_alice.get(f"/commands/{row.uuid}/", headers=FRAGMENT).status_code == 200
    bulk.cancel(row, by=alice)
    assert as_alice.get(f"/commands/{row.uuid}/", headers=FRAGMENT).status_code == 286
    assert 'hx-trigger="every 1s"' not in shown(as_alice, row)


def test_parameters_are_fields_where_an_agent_describes_them(
    as_alice: Client, device_a: Device, group_a: Group
) -> None:
    parameter = {"name": "limit", "type": "integer", "required": True}
    described = [{"name": "measure", "parameters": [parameter]}]
    online(device_a, capabilities={"commands": described})
    target = {"HX-Request": "true", "HX-Target": "parameters"}
    page = as_alice.get("/commands/new/?command=measure", headers=target).content.decode()
    assert 'name="parameter-limit"' in page
    fields = form(group_a, command="measure")
    assert as_alice.post("/commands/new/", fields).status_code == 422
    as_alice.post("/commands/new/", fields | {"parameter-limit": "7"})
    assert Command.objects.get().parameters == {"limit": 7}
