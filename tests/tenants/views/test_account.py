"""Everybody's own account: password, API tokens, sessions; nobody else's."""

from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from devices.models import Device
from natsbridge.retention.engine import prune, retention
from tenants.actions import web_sessions
from tenants.actions.keys import create_api_token
from tenants.actions.people import change_person
from tenants.models import Action, ApiToken, AuditEntry, Role, User, WebSession
from tests.support.people import logged_in

OLD, NEW = "bob-password", "correct-horse-9"
PASSWORD, NEW_TOKEN, END_OTHERS = (
    "/account/password/",
    "/account/tokens/new/",
    "/account/sessions/end-others/",
)


def text(client: Client, path: str = "/account/") -> str:
    answer = client.get(path)
    assert answer.status_code == 200, path
    return answer.content.decode()


def change(client: Client, old: str = OLD, new: str = NEW, again: str = "") -> int:
    form = {"old_password": old, "new_password1": new, "new_password2": again or new}
    return client.post(PASSWORD, form).status_code


def from_browser(user: User, agent: str, address: str) -> Client:
    client = Client(HTTP_USER_AGENT=agent, REMOTE_ADDR=address)
    client.force_login(user)
    client.get("/account/")
    return client


def is_in(client: Client) -> bool:
    return client.get("/account/").status_code == 200


def audited(action: Action) -> AuditEntry:
    return AuditEntry.objects.filter(action=action).latest("pk")


def test_the_account_page_is_for_people_who_are_logged_in(as_bob: Client, alice: User) -> None:
    assert Client().get("/account/")["Location"] == "/login/?next=/account/"
    assert 'href="/account/"' in text(as_bob, "/")
    page = text(as_bob)
    assert "Acme (viewer)" in page
    assert "No API token yet" in page
    nobody = logged_in(User.objects.create_user("nobody"))
    assert "not a member of any tenant" in text(nobody)


def test_bob_changes_his_password_and_stays_logged_in_here_alone(bob: User) -> None:
    here, elsewhere = logged_in(bob), logged_in(bob)
    assert is_in(here)
    assert is_in(elsewhere)
    assert change(here) == 302
    bob.refresh_from_db()
    assert bob.check_password(NEW)
    assert is_in(here)
    assert not is_in(elsewhere)
    assert Session.objects.count() == 1
    entry = audited(Action.PERSON_CHANGED)
    assert (entry.actor, entry.via, entry.target) == ("bob", "web", "person bob")
    assert entry.detail == {"password": "changed", "sessions_ended": 1}
    assert NEW not in str(list(AuditEntry.objects.values()))


@pytest.mark.parametrize(
    ("old", "new", "again", "words"),
    [
        ("wrong", NEW, NEW, "This is not your password"),
        (OLD, NEW, "another-horse-9", "two password fields"),
        (OLD, "short1", "short1", "too short"),
        (OLD, "1234567890123", "1234567890123", "entirely numeric"),
        (OLD, "password", "password", "too common"),
    ],
)
def test_a_bad_new_password_is_refused_with_its_reason(
    as_bob: Client, bob: User, old: str, new: str, again: str, words: str
) -> None:
    form = {"old_password": old, "new_password1": new, "new_password2": again}
    answer = as_bob.post(PASSWORD, form)
    assert answer.status_code == 422
    assert words in answer.content.decode()
    bob.refresh_from_db()
    assert bob.check_password(OLD)


def test_guesses_at_the_old_password_are_locked_as_at_the_log_in_page(
    as_bob: Client, settings: Settings
) -> None:
    settings.AXES_FAILURE_LIMIT = 3
    assert [change(as_bob, old=f"guess {number}") for number in range(3)] == [422, 422, 429]
    assert change(as_bob) == 429
    assert audited(Action.PERSON_LOGIN_FAILED).target == "person bob"


def test_the_lock_out_page_tells_a_customer_what_he_can_do(alice: User, settings: Settings) -> None:
    settings.AXES_FAILURE_LIMIT = 1
    answer = Client().post("/login/", {"username": "alice", "password": "wrong"})
    page = answer.content.decode()
    assert answer.status_code == 429
    assert "manage.py" not in page
    assert "15 min" in page
    assert "an admin of your tenant" in page


def test_an_admins_new_password_and_deactivation_end_the_persons_sessions(bob: User) -> None:
    root = User.objects.create_superuser("root")
    client = logged_in(bob)
    assert is_in(client)
    bob.set_password(NEW)
    change_person(bob, by=root)
    assert not is_in(client)
    assert not Session.objects.exists()
    client.force_login(bob)
    assert is_in(client)
    bob.is_active = False
    change_person(bob, by=root)
    assert not Session.objects.exists()
    assert not is_in(client)


def test_a_token_is_made_shown_once_used_and_revoked(
    as_bob: Client, bob: User, device_a: Device
) -> None:
    form = {"name": "cron", "role": "viewer", "days": "30"}
    made = as_bob.post(NEW_TOKEN, form)
    assert made.status_code == 302
    shown = as_bob.get(made["Location"])
    assert "no-store" in shown["Cache-Control"]
    secret = shown.context["secret"]
    assert shown.content.decode().count(secret) == 1
    again = as_bob.get(made["Location"])
    assert again.status_code == 410
    assert secret not in again.content.decode()
    token = ApiToken.objects.get()
    assert secret not in text(as_bob)
    assert token.expiry is not None
    assert timedelta(days=29) < token.expiry - timezone.now() <= timedelta(days=30)

    def answer() -> int:
        status = f"/api/nats/device/{device_a.pk}/status"
        return APIClient().get(status, HTTP_AUTHORIZATION=f"Token {secret}").status_code

    assert answer() == 200
    created = audited(Action.API_TOKEN_CREATED)
    assert (created.actor, created.target) == ("bob", "API token cron of bob")
    revoke = f"/account/tokens/{token.pk}/revoke/"
    assert revoke in text(as_bob)
    assert "Revoke the API token cron" in text(as_bob, revoke)
    assert ApiToken.objects.exists()
    assert as_bob.post(revoke).status_code == 302
    assert answer() == 401
    assert audited(Action.API_TOKEN_REVOKED).actor == "bob"


@pytest.mark.parametrize("days", ["7", "never"])
def test_a_token_expires_when_its_maker_said(as_bob: Client, days: str) -> None:
    as_bob.post(NEW_TOKEN, {"name": "cron", "role": "viewer", "days": days})
    assert (ApiToken.objects.get().expiry is None) == (days == "never")


@pytest.mark.parametrize(
    "form",
    [
        {"name": "", "role": "viewer", "days": "30"},
        {"name": "x" * 101, "role": "viewer", "days": "30"},
        {"name": "a\0b", "role": "viewer", "days": "30"},
        {"name": "x", "role": "viewer", "days": "99999999"},
        {"name": "x", "role": "root", "days": "30"},
        {"name": "x", "role": "operator", "days": "30"},
        {"name": "x", "role": "admin", "days": "30"},
    ],
)
def test_nobody_gets_a_token_of_more_than_he_may(as_bob: Client, form: dict[str, str]) -> None:
    assert as_bob.post(NEW_TOKEN, form).status_code == 422
    assert not ApiToken.objects.exists()


def test_alice_may_choose_each_role(as_alice: Client) -> None:
    page = text(as_alice, NEW_TOKEN)
    for role in Role:
        assert f'value="{role.value}"' in page


def test_charlie_reaches_nothing_of_bobs(as_charlie: Client, as_bob: Client, bob: User) -> None:
    token, _ = create_api_token(bob, name="bobs", role=Role.VIEWER, expires_at=None)
    made = as_bob.post(NEW_TOKEN, {"name": "new", "role": "viewer", "days": "30"})
    session = WebSession.objects.get(user=bob)
    for path in (f"/account/tokens/{token.pk}/revoke/", f"/account/sessions/{session.pk}/end/"):
        assert as_charlie.post(path).status_code == 404
    assert as_charlie.get(made["Location"]).status_code == 410
    assert as_charlie.post(END_OTHERS).status_code == 302
    assert is_in(as_bob)
    assert ApiToken.objects.filter(user=bob).count() == 2
    page = text(as_charlie)
    assert "bobs" not in page
    assert str(token.token_key) not in page


def test_sessions_say_where_from_and_when_and_end_one_by_one(bob: User) -> None:
    here = from_browser(bob, "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0", "203.0.113.7")
    phone = from_browser(bob, "Mozilla/5.0 (iPhone) Safari/604.1", "198.51.100.7")
    page = text(here)
    for words in ("Firefox on Linux", "203.0.113.7", "Safari on iPhone", "198.51.100.7"):
        assert words in page
    assert page.count("this session") == 1
    session = WebSession.objects.get(address="198.51.100.7")
    assert session.session_key not in page
    own = WebSession.objects.get(address="203.0.113.7")
    assert here.post(f"/account/sessions/{own.pk}/end/").status_code == 404
    assert here.post(f"/account/sessions/{session.pk}/end/").status_code == 302
    assert not is_in(phone)
    assert is_in(here)
    entry = audited(Action.SESSION_ENDED)
    assert (entry.actor, entry.target) == ("bob", "person bob")
    assert entry.detail["address"] == "198.51.100.7"


def test_all_other_sessions_end_at_once(bob: User, alice: User) -> None:
    here, *others = (from_browser(bob, f"{number}", "203.0.113.7") for number in range(3))
    hers = from_browser(alice, "hers", "203.0.113.7")
    assert here.post(END_OTHERS).status_code == 302
    assert [is_in(client) for client in (here, *others, hers)] == [True, False, False, True]
    assert audited(Action.SESSION_ENDED).detail == {"sessions": 2}
    assert "no other sessions" in text(here)


@pytest.mark.usefixtures("bob")
def test_logging_in_lists_the_session_and_logging_out_takes_it_away(client: Client) -> None:
    client.post("/login/", {"username": "bob", "password": OLD}, HTTP_USER_AGENT="curl/8")
    assert WebSession.objects.alive().get().user_agent == "curl/8"
    client.post("/logout/")
    assert not WebSession.objects.alive().exists()


def test_a_session_is_noted_now_and_then_and_when_its_place_changes(
    as_bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_sessions, "RECORDED_EVERY", timedelta(days=1))
    text(as_bob)
    session = WebSession.objects.get()
    text(as_bob)
    assert WebSession.objects.get().seen_at == session.seen_at
    WebSession.objects.update(seen_at=timezone.now() - timedelta(days=2))
    text(as_bob)
    assert WebSession.objects.get().seen_at >= session.seen_at
    as_bob.get("/account/", REMOTE_ADDR="198.51.100.9")
    assert WebSession.objects.get().address == "198.51.100.9"


def test_what_is_left_of_ended_sessions_is_pruned(as_bob: Client, as_alice: Client) -> None:
    for client in (as_bob, as_alice):
        text(client)
    WebSession.objects.update(seen_at=timezone.now() - timedelta(days=2))
    Session.objects.get(session_key=as_bob.session.session_key).delete()
    kinds = [kind for kind in retention.kinds if kind.name == "places of sessions"]
    assert [outcome.rows for outcome in prune(kinds)] == [1]
    assert WebSession.objects.get().session_key == as_alice.session.session_key


def test_many_tokens_and_sessions_are_paged(bob: User) -> None:
    for number in range(11):
        create_api_token(bob, name=f"t{number:02}", role=Role.VIEWER, expires_at=None)
        client = from_browser(bob, f"agent {number:02}", "203.0.113.7")
    first, second = text(client), text(client, "/account/?tokens=2&sessions=2")
    assert "10 of 11 tokens" in first
    assert ("t10" in first, "t00" in first) == (True, False)
    assert ("t10" in second, "t00" in second) == (False, True)
    assert "10 of 11 sessions" in first


@pytest.mark.parametrize("path", [END_OTHERS, "/account/sessions/1/end/"])
def test_a_link_alone_ends_nothing(as_bob: Client, path: str) -> None:
    assert as_bob.get(path).status_code == 405


@pytest.mark.django_db(transaction=True)
def test_somebody_who_deletes_his_own_account_gets_an_answer() -> None:
    person = User.objects.create_superuser("rita")
    client = logged_in(person)
    assert is_in(client)
    answer = client.post(f"/admin/tenants/user/{person.pk}/delete/", {"post": "yes"})
    assert answer.status_code == 302
    assert not User.objects.filter(pk=person.pk).exists()
    assert not is_in(client)
