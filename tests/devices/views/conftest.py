import pytest
from django.test import Client
from django.utils import timezone

from natsbridge.models import Coverage
from tenants.models import User


@pytest.fixture
def listening(db: None) -> Coverage:
    """A subscriber listens, so silence means something."""
    return Coverage.objects.create(last_beat=timezone.now())


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    # The first page of a session notes where it is used, which is no matter of the test's page.
    client.get("/account/password/")
    return client


@pytest.fixture
def as_alice(alice: User) -> Client:
    return logged_in(alice)


@pytest.fixture
def as_bob(bob: User) -> Client:
    return logged_in(bob)


@pytest.fixture
def as_charlie(charlie: User) -> Client:
    return logged_in(charlie)
