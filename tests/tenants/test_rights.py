"""Whether a login still holds, and what its person may."""

from datetime import timedelta

import pytest
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from tenants.models import Membership, Role, User
from tenants.rights import Login, rights_of


def login(user: User) -> Login:
    browser = Client()
    browser.force_login(user)
    session = browser.session
    assert session.session_key
    return Login(session.session_key, user.pk, session[HASH_SESSION_KEY])


def test_a_login_has_its_persons_rights_of_now(alice: User) -> None:
    of_alice = login(alice)
    before = rights_of([of_alice])[of_alice]
    assert not before.is_superuser
    assert {role for _, role in before.roles} == {Role.ADMIN}
    Membership.objects.filter(user=alice).update(role=Role.VIEWER)
    after = rights_of([of_alice])[of_alice]
    assert before != after


@pytest.mark.parametrize("end", ["logout", "time", "password", "deactivated", "deleted"])
def test_a_login_ends(alice: User, bob: User, end: str) -> None:
    of_alice, of_bob = login(alice), login(bob)
    session = Session.objects.filter(session_key=of_alice.session_key)
    match end:
        case "logout":
            session.delete()
        case "time":
            session.update(expire_date=timezone.now() - timedelta(seconds=1))
        case "password":
            alice.set_password("another")
            alice.save()
        case "deactivated":
            User.objects.filter(pk=alice.pk).update(is_active=False)
        case "deleted":
            User.objects.filter(pk=alice.pk).delete()
    assert set(rights_of([of_alice, of_bob])) == {of_bob}


def test_many_logins_are_asked_for_in_three_queries(
    alice: User, bob: User, charlie: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    logins = [login(user) for user in (alice, bob, charlie) for _ in range(5)]
    with django_assert_num_queries(3):
        assert len(rights_of(logins)) == 15
