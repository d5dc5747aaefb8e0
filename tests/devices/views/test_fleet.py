from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from devices.models import Connectivity, Device
from natsbridge.models import Coverage
from tenants.actions.people import set_membership
from tenants.actions.tenants import create_group
from tenants.models import Group, Role, User
from tests.support.people import logged_in

FRAGMENT = {"HX-Request": "true"}


def add(group: Group, name: str, *, seen: timedelta | None = None, **system_info: Any) -> Device:
    """A device that was last seen so long ago; never, without."""
    device = Device.objects.create(group=group, name=name)
    if seen is not None:
        at = timezone.now() - seen
        Connectivity.objects.create(
            device=device,
            last_heartbeat=at,
            last_seen_online=at,
            agent_version="1.2.3",
            connection_info={"system_info": system_info},
        )
    return device


def names(client: Client, query: str = "", **headers: str) -> list[str]:
    return [device.name for device, *_ in client.get(f"/{query}", headers=headers).context["rows"]]


def counts(client: Client, query: str = "") -> dict[str, int]:
    return {str(name): number for name, number in client.get(f"/{query}").context["counts"]}


def test_somebody_who_is_not_logged_in_is_sent_to_the_login_page(db: None) -> None:
    answer = Client().get("/?status=Online")
    assert answer.status_code == 302
    assert answer["Location"] == "/login/?next=/%3Fstatus%3DOnline"


def test_a_poll_without_a_session_sends_the_whole_page_to_the_login_page(db: None) -> None:
    headers = FRAGMENT | {"HX-Current-URL": "http://testserver/?q=lab"}
    answer = Client().get("/?q=lab", headers=headers)
    assert answer.status_code == 401
    assert answer["HX-Redirect"] == "/login/?next=/%3Fq%3Dlab"


def test_a_poll_cannot_be_made_to_redirect_to_another_site(db: None) -> None:
    headers = FRAGMENT | {"HX-Current-URL": "https://evil.example//evil.example/x"}
    answer = Client().get("/", headers=headers)
    assert "next=//" not in answer["HX-Redirect"]


def test_people_see_the_devices_of_their_tenants_only(
    as_alice: Client, as_bob: Client, as_charlie: Client, group_a: Group, group_b: Group
) -> None:
    add(group_a, "anna-laptop")
    add(group_b, "berta-server")
    assert names(as_alice) == names(as_bob) == ["anna-laptop"]
    assert names(as_charlie) == ["berta-server"]
    assert b"anna-laptop" not in as_charlie.get("/").content


def test_each_status_is_counted_and_filters(
    as_alice: Client, group_a: Group, listening: Coverage
) -> None:
    add(group_a, "online", seen=timedelta(seconds=5))
    add(group_a, "stale", seen=timedelta(minutes=5))
    add(group_a, "offline", seen=timedelta(hours=5))
    add(group_a, "never")
    assert counts(as_alice) == {"Online": 1, "Stale": 1, "Offline": 2, "Unknown": 0}
    assert names(as_alice, "?status=Stale") == ["stale"]
    assert names(as_alice, "?status=Offline") == ["never", "offline"]
    assert counts(as_alice, "?status=Stale")["Online"] == 1


def test_while_nobody_listens_every_device_is_unknown(as_alice: Client, group_a: Group) -> None:
    add(group_a, "anna", seen=timedelta(seconds=5))
    assert counts(as_alice) == {"Online": 0, "Stale": 0, "Offline": 0, "Unknown": 1}
    assert names(as_alice, "?status=Unknown") == ["anna"]


def test_the_search_finds_names_host_names_and_uuids(as_alice: Client, group_a: Group) -> None:
    anna = add(group_a, "anna", seen=timedelta(0), hostname="win-0042.acme.example")
    add(group_a, "build", seen=timedelta(0), hostname="build.acme.example")
    assert names(as_alice, "?q=ANN") == ["anna"]
    assert names(as_alice, "?q=0042") == ["anna"]
    assert names(as_alice, f"?q={anna.pk}") == ["anna"]
    assert names(as_alice, f"?q={str(anna.pk)[:13]}") == ["anna"]
    assert names(as_alice, "?q=acme") == ["anna", "build"]


def test_the_group_and_the_tenant_filter(
    as_alice: Client, alice: User, group_a: Group, group_b: Group
) -> None:
    servers = create_group(group_a.organisation, name="Servers")
    add(group_a, "laptop")
    add(servers, "server")
    assert names(as_alice, f"?group={servers.pk}") == ["server"]
    assert names(as_alice, f"?tenant={group_a.tenant_id}") == ["laptop", "server"]


def test_a_group_of_another_tenant_than_the_chosen_one_is_said_to_be_one(
    as_alice: Client, alice: User, group_a: Group, group_b: Group
) -> None:
    set_membership(alice, group_b.tenant, Role.VIEWER)
    add(group_a, "laptop")
    query = f"?tenant={group_b.tenant_id}&group={group_a.pk}"
    assert names(as_alice, query) == []
    for headers in ({}, FRAGMENT):
        body = as_alice.get(f"/{query}", headers=headers).content.decode()
        assert "The group Acme / Acme Ltd / Laptops does not belong to Beta." in body
    body = as_alice.get("/").content.decode()
    assert f'value="{group_a.pk}" data-tenant="{group_a.tenant_id}"' in body


@pytest.mark.parametrize(
    "query", ["?status=Nonsense", "?tenant=17", "?group={foreign}", "?q=a%00b", "?sort=secret"]
)
def test_a_filter_that_makes_no_sense_matches_nothing(
    as_alice: Client, group_a: Group, group_b: Group, query: str
) -> None:
    add(group_a, "a")
    assert names(as_alice, query.format(foreign=group_b.pk)) == []


def test_a_click_on_a_heading_sorts_and_another_one_reverses(
    as_alice: Client, group_a: Group
) -> None:
    add(group_a, "one", seen=timedelta(minutes=3), platform="Windows")
    add(group_a, "two", seen=timedelta(minutes=1), platform="Linux")
    add(group_a, "unheard")
    assert names(as_alice, "?sort=seen") == ["one", "two", "unheard"]
    assert names(as_alice, "?sort=-seen") == ["two", "one", "unheard"]
    assert names(as_alice, "?sort=platform") == ["two", "one", "unheard"]
    body = as_alice.get("/?sort=seen&q=o").content.decode()
    assert 'aria-sort="ascending"' in body
    assert 'href="?sort=-seen&amp;q=o"' in body


def test_pages_have_fifty_devices_and_keep_the_filter(as_alice: Client, group_a: Group) -> None:
    for number in range(53):
        add(group_a, f"device-{number:02}")
    assert len(names(as_alice)) == 50
    assert names(as_alice, "?page=2") == ["device-50", "device-51", "device-52"]
    assert names(as_alice, "?page=99") == ["device-50", "device-51", "device-52"]
    assert "?q=device&amp;page=2" in as_alice.get("/?q=device").content.decode()


def test_htmx_gets_the_rows_and_the_counts_without_the_page(
    as_alice: Client, group_a: Group
) -> None:
    add(group_a, "anna")
    answer = as_alice.get("/", headers=FRAGMENT)
    body = answer.content.decode()
    assert "anna" in body
    assert 'hx-swap-oob="true"' in body
    assert "<html" not in body
    assert "HX-Request" in answer["Vary"]


def test_the_number_of_queries_does_not_grow_with_the_fleet(
    as_alice: Client, group_a: Group
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            as_alice.get("/", headers=FRAGMENT)
        return len(captured)

    add(group_a, "first", seen=timedelta(0))
    # The first request of a session also notes that it is used.
    queries()
    few = queries()
    for number in range(30):
        add(group_a, f"device-{number}", seen=timedelta(0) if number % 2 else None)
    assert queries() == few <= 9


def test_of_what_a_device_says_of_itself_only_what_is_shown_is_read(
    as_alice: Client, group_a: Group
) -> None:
    add(group_a, "first", seen=timedelta(0), hostname="h" * 5_000, platform="Linux", more="m" * 99)
    with CaptureQueriesContext(connection) as captured:
        body = as_alice.get("/").content.decode()
    read = [each["sql"] for each in captured if "said_hostname" in each["sql"]]
    assert len(read) == 1
    assert '"devices_connectivity"."connection_info",' not in read[0]
    assert "h" * 100 in body
    assert "h" * 101 not in body
    assert "Linux" in body


def test_nothing_of_the_page_is_stored_or_run_from_elsewhere(as_alice: Client) -> None:
    answer = as_alice.get("/")
    assert "no-store" in answer["Cache-Control"]
    assert "script-src 'self';" in answer["Content-Security-Policy"]
    assert b"<script>" not in answer.content
    assert b" style=" not in answer.content


@pytest.mark.usefixtures("group_a")
def test_an_empty_fleet_says_how_to_enrol_a_device(as_alice: Client, as_bob: Client) -> None:
    for client in (as_alice, as_bob):
        for headers in ({}, FRAGMENT):
            body = client.get("/", headers=headers).content.decode()
            assert "No devices yet" in body
            assert "/downloads/nats_persistent_agent.py" in body
            assert ("/devices/add/" in body) == (client is as_alice)


def test_an_empty_match_offers_to_clear_the_filters(as_alice: Client, group_a: Group) -> None:
    add(group_a, "anna")
    body = as_alice.get("/?q=zzz").content.decode()
    assert "No device matches" in body
    assert "Clear the filters" in body


def test_somebody_without_a_tenant_reads_what_to_do(db: None) -> None:
    nobody = User.objects.create_user("dora")
    assert "not a member of any tenant" in logged_in(nobody).get("/").content.decode()


def test_a_name_is_text_and_never_markup(as_alice: Client, group_a: Group) -> None:
    add(group_a, "<script>alert(1)</script>", seen=timedelta(0), platform="<img src=x>")
    body = as_alice.get("/").content.decode()
    assert "<script>alert" not in body
    assert "<img src=x>" not in body
