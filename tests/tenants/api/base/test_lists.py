"""Pages, ordering and query parameters, which are the same for every resource."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from tenants.actions.tenants import create_group
from tenants.api.base.viewsets import ResourceViewSet
from tenants.models import Group, Organisation, Role, Tenant, User
from tests.support.people import authorization
from wegweiser.urls import router

GROUPS = "/api/groups"
VIEWSETS = [viewset for _, viewset, _ in router.registry if issubclass(viewset, ResourceViewSet)]


@pytest.fixture
def api(bob: User) -> APIClient:
    api = APIClient()
    api.credentials(**authorization(bob, Role.VIEWER))
    return api


@pytest.fixture
def names(group_a: Group) -> list[str]:
    for number in range(6):
        create_group(group_a.organisation, name=f"Group {number}")
    return sorted(Group.objects.values_list("name", flat=True))


def walk(api: APIClient, address: str | None, link: str) -> list[list[str]]:
    pages = []
    while address:
        answer = api.get(address)
        assert answer.status_code == 200, answer.content
        body: dict[str, Any] = answer.json()
        pages.append([row["name"] for row in body["results"]])
        address = body[link]
    return pages


@pytest.mark.parametrize("ordering", ["name", "-name"])
def test_pages_follow_each_other_forwards_and_backwards(
    api: APIClient, names: list[str], ordering: str
) -> None:
    if ordering == "-name":
        names.reverse()
    pages = walk(api, f"{GROUPS}?limit=3&ordering={ordering}", "next")
    assert pages == [names[:3], names[3:6], names[6:]]
    second = api.get(f"{GROUPS}?limit=3&ordering={ordering}").json()["next"]
    last = api.get(second).json()["next"]
    assert walk(api, last, "previous") == [names[6:], names[3:6], names[:3]]


def test_rows_that_come_and_go_shift_no_page(
    api: APIClient, names: list[str], group_a: Group
) -> None:
    following = api.get(GROUPS, {"limit": 3}).json()["next"]
    create_group(group_a.organisation, name="A new one")
    Group.objects.filter(name=names[2]).delete()
    assert [row["name"] for row in api.get(following).json()["results"]] == names[3:6]


def test_no_row_is_lost_among_more_than_a_thousand_of_one_name(
    api: APIClient, tenant_a: Tenant
) -> None:
    places = [Organisation(tenant=tenant_a, name=f"{number}") for number in range(1001)]
    Organisation.objects.bulk_create(places)
    Group.objects.bulk_create(
        Group(organisation=place, tenant=tenant_a, name="Same") for place in places
    )
    pages = walk(api, f"{GROUPS}?limit=400", "next")
    assert [len(page) for page in pages] == [400, 400, 201]


def test_a_list_keeps_its_filters_from_page_to_page(api: APIClient, names: list[str]) -> None:
    address = f"{GROUPS}?limit=4&search=Group"
    assert walk(api, address, "next") == [names[:4], names[4:6]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=%D9%A3", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=%00", "cursor"),
        ("ordering=colour", "ordering"),
        ("ordering=--name", "ordering"),
        ("ordering=organisation__tenant__name", "ordering"),
        ("search=%00", "search"),
        (f"search={'x' * 201}", "search"),
        ("organisation=x", "organisation"),
        ("organisation=%00", "organisation"),
        ("organization=x", "organization"),
        ("organisation__name=x", "organisation__name"),
        ("format=json", "format"),
    ],
)
def test_a_wrong_or_unknown_parameter_is_named(
    api: APIClient, names: list[str], query: str, field: str
) -> None:
    answer = api.get(f"{GROUPS}?{query}")
    assert answer.status_code == 400, answer.content
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_a_cursor_belongs_to_its_ordering(api: APIClient, names: list[str]) -> None:
    following = api.get(GROUPS, {"limit": 3}).json()["next"]
    answer = api.get(f"{following}&ordering=-name")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "cursor")


def test_a_single_row_takes_no_parameters(api: APIClient, group_a: Group) -> None:
    assert api.get(f"{GROUPS}/{group_a.pk}", {"search": "nothing"}).status_code == 400


def test_each_address_answers_with_and_without_its_final_slash(
    api: APIClient, group_a: Group
) -> None:
    for address in (GROUPS, f"{GROUPS}/{group_a.pk}", "/api/organisations"):
        assert api.get(address).json() == api.get(f"{address}/").json()


def test_the_root_lists_the_resources_to_people(api: APIClient) -> None:
    assert api.get("/api/").json()["groups"] == "http://testserver/api/groups"
    assert APIClient().get("/api/").status_code == 401
    assert api.get("/api/nothing").json()["type"] == "not-found"


def test_a_list_costs_as_many_queries_whatever_its_length(api: APIClient, group_a: Group) -> None:
    with CaptureQueriesContext(
        connection,
    ) as few:
        api.get(GROUPS)
    for number in range(20):
        create_group(group_a.organisation, name=f"More {number}")
    with CaptureQueriesContext(connection) as many:
        assert len(api.get(GROUPS).json()["results"]) == 21
    assert len(few) == len(many)


@pytest.mark.parametrize("viewset", VIEWSETS)
def test_a_resource_is_ordered_by_columns_that_cannot_be_null(
    viewset: type[ResourceViewSet[Any]],
) -> None:
    assert viewset.ordering.lstrip("-") in viewset.ordering_fields
    declared: Any = viewset.queryset
    for path in viewset.ordering_fields:
        model = declared.model
        for name in path.split("__"):
            field = model._meta.get_field(name)
            assert not field.null, path
            model = field.related_model
