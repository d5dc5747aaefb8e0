"""The log-in pages; the views are Django's, the templates ours."""

import pytest
from django.test import Client, RequestFactory
from django.test.utils import override_settings
from django.views.defaults import server_error
from pytest_django.fixtures import Settings

from tenants.models import User


def log_in(client: Client, password: str) -> object:
    return client.post("/login/", {"username": "alice", "password": password})


def test_logging_in_leads_to_the_fleet_and_logging_out_back(client: Client, alice: User) -> None:
    answer = client.post("/login/", {"username": "alice", "password": "alice-password"})
    assert (answer.status_code, answer["Location"]) == (302, "/")
    answer = client.post("/logout/", {"next": "/login/?logged-out"}, follow=True)
    assert "You are logged out." in answer.content.decode()
    assert client.get("/").status_code == 302


def test_a_wrong_password_is_said_and_the_name_is_kept(client: Client, alice: User) -> None:
    answer = client.post("/login/", {"username": "alice", "password": "wrong"})
    assert "Wrong user name or password" in answer.content.decode()
    assert 'value="alice"' in answer.content.decode()


@pytest.mark.usefixtures("alice")
def test_too_many_attempts_lock_the_name_and_say_so(client: Client) -> None:
    with override_settings(AXES_FAILURE_LIMIT=2):
        log_in(client, "wrong")
        answer = client.post("/login/", {"username": "alice", "password": "wrong"})
        assert answer.status_code == 429
        assert "Too many attempts" in answer.content.decode()
        assert "15 min" in answer.content.decode()
        answer = client.post("/login/", {"username": "alice", "password": "alice-password"})
        assert answer.status_code == 429


def test_an_address_that_tries_ever_new_names_is_locked_whatever_the_name(
    client: Client, alice: User, settings: Settings
) -> None:
    settings.LOGIN_ADDRESS_FAILURE_LIMIT = 3

    def try_in(name: str, password: str, address: str) -> int:
        client.logout()
        content = {"username": name, "password": password}
        return client.post("/login/", content, REMOTE_ADDR=address).status_code

    assert [try_in(f"guess {n}", "wrong", "203.0.113.7") for n in range(3)] == [200, 200, 429]
    assert try_in("alice", "alice-password", "203.0.113.7") == 429
    assert try_in("alice", "alice-password", "203.0.113.8") == 302
    # A proxy that does not say who called must not lock everybody.
    assert {try_in(f"guess {n}", "wrong", "127.0.0.1") for n in range(4)} == {200}


@pytest.mark.usefixtures("db")
def test_an_ipv6_network_is_one_address_to_the_lock(client: Client, settings: Settings) -> None:
    settings.LOGIN_ADDRESS_FAILURE_LIMIT = 3

    def guess(number: int, address: str) -> int:
        content = {"username": f"guess {number}", "password": "wrong"}
        return client.post("/login/", content, REMOTE_ADDR=address).status_code

    addresses = [f"2001:db8:1:2::{number}" for number in range(3)]
    assert [guess(number, address) for number, address in enumerate(addresses)] == [200, 200, 429]
    assert guess(3, "2001:db8:1:3::1") == 200


def test_the_error_page_needs_neither_database_nor_person() -> None:
    answer = server_error(RequestFactory().get("/"))
    assert b"Something went wrong" in answer.content
