from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from tests.support.emptying import empty_tables


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_by_the_web(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """The web commits what it refuses, and no rollback of a test takes that back."""
    yield
    with django_db_blocker.unblock():
        empty_tables()
