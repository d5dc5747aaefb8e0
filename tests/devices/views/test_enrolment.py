import re

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from devices.views.enrolment import AGENT
from tenants.actions.keys import find_enrollment_key
from tenants.models import EnrollmentKey, Group, User
from tests.support.people import shown


def answer_of(client: Client, group: Group, **changes: str) -> str:
    fields = {"group": str(group.pk), "name": "For Anna", "max_uses": "2", "lifetime": "7"}
    return shown(client, client.post("/devices/add/", fields | changes)).content.decode()


def test_the_agent_can_be_downloaded_by_anybody(client: Client) -> None:
    answer = client.get("/downloads/nats_persistent_agent.py")
    assert answer.status_code == 200
    assert b"".join(answer) == AGENT.read_bytes()  # type: ignore[arg-type]
    assert answer["Content-Disposition"] == 'attachment; filename="nats_persistent_agent.py"'


def test_an_admin_gets_a_key_that_works_and_the_commands_to_use_it(
    as_alice: Client, alice: User, group_a: Group, settings: Settings
) -> None:
    settings.PUBLIC_URL = "https://wegweiser.example"
    body = answer_of(as_alice, group_a)
    found = re.search(r"WEGWEISER_ENROLLMENT_KEY=(\S+)", body)
    assert found
    key = find_enrollment_key(found.group(1), group_a.pk)
    assert (key.name, key.max_uses, key.created_by) == ("For Anna", 2, alice)
    assert key.expires_at is not None
    assert f"WEGWEISER_GROUP={group_a.pk}" in body
    assert "curl -fsSO https://wegweiser.example/downloads/nats_persistent_agent.py" in body


def test_the_commands_fit_the_way_the_agent_will_take(
    as_alice: Client, group_a: Group, settings: Settings
) -> None:
    settings.PUBLIC_URL = "https://wegweiser.example"
    settings.AGENT_NATS_URL = "tls://nats.example:443"
    body = answer_of(as_alice, group_a)
    assert "psutil aiohttp" not in body
    assert "WEGWEISER_INSECURE" not in body
    settings.PUBLIC_URL = "http://wegweiser.example"
    settings.AGENT_NATS_URL += ",wss://wegweiser.example/nats"
    body = answer_of(as_alice, group_a, name="Another")
    assert body.count("psutil aiohttp") == 2
    assert "WEGWEISER_INSECURE=1" in body


def test_the_page_with_the_key_is_not_stored(as_alice: Client, group_a: Group) -> None:
    posted = as_alice.post("/devices/add/", {"group": str(group_a.pk), "name": "x"})
    assert "no-store" in posted["Cache-Control"]
    assert "no-store" in shown(as_alice, posted)["Cache-Control"]


def test_a_reload_of_the_page_with_the_key_makes_no_second_key(
    as_alice: Client, group_a: Group
) -> None:
    posted = as_alice.post("/devices/add/", {"group": str(group_a.pk), "name": "x"})
    page = shown(as_alice, posted)
    key = page.context["plain"]
    assert key not in posted["Location"]
    again = as_alice.get(posted["Location"])
    assert again.status_code == 410
    assert key not in again.content.decode()
    assert 'href="/devices/add/"' in again.content.decode()
    assert EnrollmentKey.objects.count() == 1


def test_a_key_may_be_without_limits(as_alice: Client, group_a: Group) -> None:
    answer_of(as_alice, group_a, max_uses="", lifetime="")
    key = EnrollmentKey.objects.get()
    assert (key.max_uses, key.expires_at) == (None, None)


@pytest.mark.parametrize("changes", [{"max_uses": "0"}, {"lifetime": "9"}, {"name": ""}])
def test_a_wrong_field_makes_no_key(
    as_alice: Client, group_a: Group, changes: dict[str, str]
) -> None:
    fields = {"group": str(group_a.pk), "name": "x"} | changes
    assert as_alice.post("/devices/add/", fields).status_code == 422
    assert not EnrollmentKey.objects.exists()


def test_only_admins_add_devices_and_only_to_their_own_groups(
    as_alice: Client, as_bob: Client, group_a: Group, group_b: Group
) -> None:
    fields = {"group": str(group_b.pk), "name": "x"}
    assert as_bob.get("/devices/add/").status_code == 403
    assert as_bob.post("/devices/add/", fields).status_code == 403
    assert as_alice.post("/devices/add/", fields).status_code == 422
    assert str(group_b.pk) not in as_alice.get("/devices/add/").content.decode()
    assert not EnrollmentKey.objects.exists()
