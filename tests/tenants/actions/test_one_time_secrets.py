"""A new secret is shown once, and only to the person who created it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.utils import timezone

from natsbridge.retention.engine import prune, retention
from tenants.actions.keys import create_enrollment_key
from tenants.actions.one_time_secrets import reveal_secret, store_secret
from tenants.models import ApiToken, EnrollmentKey, Group, OneTimeSecret, User


@pytest.fixture
def key(group_a: Group) -> tuple[EnrollmentKey, str]:
    return create_enrollment_key(group_a, name="June")


def kept(key: tuple[EnrollmentKey, str], alice: User) -> UUID:
    row, plain = key
    return store_secret(plain, row, to=alice)


def test_it_is_shown_once(key: tuple[EnrollmentKey, str], alice: User) -> None:
    secret_id = kept(key, alice)
    revealed = reveal_secret(secret_id, EnrollmentKey, to=alice)
    assert revealed is not None
    assert (revealed.row_id, revealed.secret) == (str(key[0].pk), key[1])
    assert reveal_secret(secret_id, EnrollmentKey, to=alice) is None
    assert not OneTimeSecret.objects.exists()


def test_only_the_person_who_made_it_sees_it_and_only_on_its_own_page(
    key: tuple[EnrollmentKey, str], alice: User, bob: User
) -> None:
    secret_id = kept(key, alice)
    assert reveal_secret(secret_id, EnrollmentKey, to=bob) is None
    assert reveal_secret(secret_id, ApiToken, to=alice) is None
    assert reveal_secret(uuid4(), EnrollmentKey, to=alice) is None
    assert reveal_secret(secret_id, EnrollmentKey, to=alice)


def test_it_cannot_be_read_in_the_database(key: tuple[EnrollmentKey, str], alice: User) -> None:
    kept(key, alice)
    [row] = OneTimeSecret.objects.values()
    assert key[1] not in str(row)


def test_it_is_not_shown_later_and_goes_with_the_next_pruning(
    key: tuple[EnrollmentKey, str], alice: User
) -> None:
    long_ago = timezone.now() - timedelta(hours=1)
    for _ in range(2):
        OneTimeSecret.objects.filter(pk=kept(key, alice)).update(created_at=long_ago)
    old = OneTimeSecret.objects.first()
    fresh = kept(key, alice)
    assert old is not None
    assert reveal_secret(old.pk, EnrollmentKey, to=alice) is None
    kinds = [kind for kind in retention.kinds if kind.name == "secrets that were not shown"]
    assert [outcome.rows for outcome in prune(kinds)] == [1]
    assert reveal_secret(fresh, EnrollmentKey, to=alice)


@pytest.mark.django_db(transaction=True)
def test_of_two_tabs_at_the_same_moment_one_shows_it(
    key: tuple[EnrollmentKey, str], alice: User
) -> None:
    secret_id = kept(key, alice)

    def open_page(_: int) -> bool:
        try:
            return reveal_secret(secret_id, EnrollmentKey, to=alice) is not None
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as tabs:
        assert sorted(tabs.map(open_page, range(4))) == [False, False, False, True]
