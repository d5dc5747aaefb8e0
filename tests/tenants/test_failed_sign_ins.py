"""The admin's list of failed sign-ins, filled through the real pages where people log in."""

from datetime import timedelta

import pytest
from axes.models import AccessFailureLog
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from natsbridge.retention.engine import prune, retention
from tenants.models import User

LIST = "/admin/axes/accessfailurelog/"


def fail(path: str, name: str = "alice", typed: str = "wrong", **extra: str) -> int:
    content = {"username": name, "password": typed}
    return Client().post(path, content, **extra).status_code


def listed() -> list[tuple[str, str, bool]]:
    rows = AccessFailureLog.objects.order_by("pk")
    return [(row.username, row.path_info, row.locked_out) for row in rows]


@pytest.fixture
def staff(client: Client, db: None) -> Client:
    client.force_login(User.objects.create_superuser("sam"))
    return client


@pytest.mark.parametrize("path", ["/login/", "/admin/login/"])
def test_a_wrong_password_is_in_the_list_of_failed_sign_ins(
    staff: Client, alice: User, path: str
) -> None:
    fail(path, REMOTE_ADDR="203.0.113.9", HTTP_USER_AGENT="A browser")
    assert listed() == [("alice", path, False)]
    shown = staff.get(LIST).content.decode()
    for each in ("alice", path, "203.0.113.9", "A browser"):
        assert each in shown


@pytest.mark.usefixtures("alice")
def test_a_good_password_is_not_in_it() -> None:
    assert fail("/login/", typed="alice-password") == 302
    assert listed() == []


def test_a_name_that_is_not_a_username_of_ours_may_be_a_password_and_is_not_listed(
    staff: Client, alice: User
) -> None:
    fail("/login/", name="hunter2-in-the-wrong-field")
    assert listed() == [("", "/login/", False)]
    assert "hunter2" not in staff.get(LIST).content.decode()


def test_an_attempt_that_locks_is_marked_and_the_refused_ones_after_it_are_not_listed(
    alice: User, settings: Settings
) -> None:
    settings.AXES_FAILURE_LIMIT = 2
    answers = [fail("/login/") for _ in range(6)]
    assert answers == [200, 429, 429, 429, 429, 429]
    assert listed() == [("alice", "/login/", False), ("alice", "/login/", True)]


@pytest.mark.usefixtures("alice")
def test_failed_sign_ins_go_after_sign_in_days(settings: Settings) -> None:
    settings.SIGN_IN_DAYS = 30
    for days in (29, 31):
        fail("/login/", HTTP_USER_AGENT=f"{days}")
        row = AccessFailureLog.objects.filter(user_agent=f"{days}")
        row.update(attempt_time=timezone.now() - timedelta(days=days))
    kinds = [kind for kind in retention.kinds if kind.name == "failed sign-ins"]
    assert [outcome.rows for outcome in prune(kinds)] == [1]
    assert AccessFailureLog.objects.get().user_agent == "29"


def test_the_list_is_for_staff_with_the_permission(client: Client, alice: User) -> None:
    fail("/login/")
    client.force_login(alice)
    assert client.get(LIST).status_code == 302
    client.force_login(User.objects.create_user("stella", is_staff=True))
    assert client.get(LIST).status_code == 403
