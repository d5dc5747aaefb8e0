import pytest
from playwright.sync_api import Page, expect

from devices.models import Device
from tenants.actions.people import set_membership
from tenants.models import Group, Role, Tenant, User
from tests.browser.conftest import Backend, Open


def make_devices(group: Group, *names: str) -> None:
    for name in names:
        Device.objects.create(group=group, name=name)


def names(page: Page) -> list[str]:
    return page.locator("tbody th a").all_inner_texts()


def test_the_search_narrows_the_rows_while_typing_and_keeps_the_address(
    alice: User, group_a: Group, open_page: Open, backend: Backend
) -> None:
    backend(make_devices, group_a, "anna", "build-1", "build-2")
    page = open_page(alice, "/")
    search = page.get_by_role("searchbox", name="Search")
    search.press_sequentially("build")
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page).to_have_url(f"{page.url.split('?')[0]}?q=build")
    expect(search).to_be_focused()
    page.reload()
    assert names(page) == ["build-1", "build-2"]


def test_a_count_filters_a_heading_sorts_and_back_undoes(
    alice: User, group_a: Group, open_page: Open, backend: Backend
) -> None:
    backend(make_devices, group_a, "anna", "berta")
    page = open_page(alice, "/?q=a")
    page.get_by_role("link", name="2 Offline").click()
    expect(page.locator("#count-offline")).to_have_attribute("aria-current", "true")
    page.get_by_role("columnheader", name="Device").get_by_role("link").click()
    expect(page.locator("th[aria-sort=descending]")).to_have_text("Device")
    assert names(page) == ["berta", "anna"]
    page.get_by_role("searchbox").fill("an")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert "status=Offline" in page.url
    assert "sort=-name" in page.url
    page.go_back()
    page.wait_for_url(lambda url: "sort" not in url)
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_role("searchbox").fill("nothing like it")
    page.get_by_role("link", name="Clear the filters").click()
    expect(page.get_by_role("searchbox")).to_have_value("")


def test_a_new_device_appears_and_nothing_else_moves(
    alice: User, group_a: Group, open_page: Open, backend: Backend
) -> None:
    backend(make_devices, group_a, *(f"device-{number:02}" for number in range(40)), "zebra")
    page = open_page(alice, "/?q=device")
    link = page.get_by_role("link", name="device-30")
    link.focus()
    scrolled = page.evaluate("scrollY")
    assert scrolled > 0
    page.evaluate("window.sameDocument = true")
    backend(make_devices, group_a, "device-99")
    expect(page.get_by_role("link", name="device-99")).to_be_visible()
    assert page.evaluate("window.sameDocument")
    assert page.evaluate("scrollY") == scrolled
    expect(link).to_be_focused()
    expect(page.get_by_role("link", name="zebra")).to_have_count(0)
    expect(page.get_by_role("link", name="41 All")).to_be_visible()


def test_a_poll_that_brings_nothing_new_leaves_the_rows_and_a_pressed_button_is_not_replaced(
    alice: User, group_a: Group, open_page: Open, backend: Backend
) -> None:
    backend(make_devices, group_a, "anna")
    page = open_page(alice, "/?q=an")
    # The first answer is compared with nothing.
    with page.expect_response("**/?q=an"):
        pass
    page.locator("tbody tr").evaluate("row => { row.marked = true; }")
    with page.expect_response("**/?q=an"):
        pass
    assert page.locator("tbody tr").evaluate("row => row.marked")
    page.locator("#count-offline").hover()
    page.mouse.down()
    backend(make_devices, group_a, "andrea")
    with page.expect_response("**/?q=an"):
        pass
    page.wait_for_timeout(200)
    page.mouse.up()
    page.wait_for_url("**/?q=an&status=Offline")
    expect(page.locator("tbody tr")).to_have_count(2)


def test_a_click_right_after_typing_is_not_lost(
    alice: User, group_a: Group, open_page: Open, backend: Backend
) -> None:
    backend(make_devices, group_a, "anna", "berta")
    page = open_page(alice, "/")
    page.get_by_role("searchbox").press_sequentially("ann")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator("#count-offline").click(delay=300)
    page.wait_for_url("**/?q=ann&status=Offline")


def test_a_session_that_ends_leads_to_the_login_page(
    alice: User, open_page: Open, complaints: list[str]
) -> None:
    page = open_page(alice, "/?q=x")
    page.context.clear_cookies()
    page.wait_for_url("**/login/?next=/%3Fq%3Dx")
    # The browser itself reports the 401.
    assert all("401" in complaint for complaint in complaints)
    complaints.clear()


REMEMBER_STATES = """() => {
  window.states = [];
  const freshness = document.getElementById("freshness");
  const remember = () => states.push(freshness.dataset.state);
  new MutationObserver(remember).observe(freshness, { attributes: true });
}"""


@pytest.fixture
def of_both(alice: User, tenant_b: Tenant) -> User:
    set_membership(alice, tenant_b, Role.ADMIN)
    return alice


def test_choosing_a_tenant_leaves_its_groups_to_choose_from(
    of_both: User,
    group_a: Group,
    group_b: Group,
    open_page: Open,
    backend: Backend,
    complaints: list[str],
) -> None:
    for group, name in ((group_a, "laptop"), (group_b, "server")):
        backend(Device.objects.create, group=group, name=name)
    laptops, servers = "Acme / Acme Ltd / Laptops", "Beta / Beta GmbH / Servers"
    for path, groups in (("/", "Group"), ("/commands/new/?target=filter", "In group")):
        page = open_page(of_both, path)
        tenant, group = page.get_by_label("Tenant"), page.get_by_label(groups, exact=True)
        expect(group.locator("option")).to_have_text(["All groups", laptops, servers])
        group.select_option(laptops)
        tenant.select_option("Acme")
        expect(group.locator("option")).to_have_text(["All groups", laptops])
        expect(group).to_have_value(str(group_a.pk))
        tenant.select_option("Beta")
        expect(group.locator("option")).to_have_text(["All groups", servers])
        expect(group).to_have_value("")
        tenant.select_option("All tenants")
        expect(group.locator("option")).to_have_text(["All groups", laptops, servers])
    page = open_page(of_both, "/")
    page.evaluate(REMEMBER_STATES)
    page.get_by_label("Group").select_option(laptops)
    page.get_by_label("Tenant").select_option("Beta")
    expect(page.locator("tbody th")).to_have_text(["server"])
    assert page.evaluate("states") == [], "it is live all the time"
    # A choice ends the request for the one before it, which htmx calls an error.
    complaints.clear()


def test_an_address_that_contradicts_itself_shows_both_choices_and_says_so(
    of_both: User, group_a: Group, group_b: Group, open_page: Open
) -> None:
    page = open_page(of_both, f"/?tenant={group_b.tenant_id}&group={group_a.pk}")
    expect(page.locator("#fleet")).to_contain_text("does not belong to Beta")
    expect(page.get_by_label("Tenant")).to_have_value(str(group_b.tenant_id))
    expect(page.get_by_label("Group")).to_have_value(str(group_a.pk))
