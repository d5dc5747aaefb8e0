"""What the tests lean on: that a test begins with empty tables, and that groups stay together."""

import pytest
from django.apps import apps

from devices.models import Device
from tenants.models import User
from tests.plugin import TOGETHER, group_of
from tests.support.emptying import MADE_BY_MIGRATE, empty_tables


@pytest.mark.django_db(transaction=True)
def test_after_a_test_that_commits_only_the_rows_of_migrate_are_left(
    alice: User, device_a: Device
) -> None:
    made_by_migrate = {model: model._base_manager.count() for model in MADE_BY_MIGRATE}
    assert all(made_by_migrate.values())
    empty_tables()
    left = {model: count for model in apps.get_models() if (count := model._base_manager.count())}
    assert left == made_by_migrate


def test_tests_that_share_something_costly_have_one_worker(request: pytest.FixtureRequest) -> None:
    whole = "tests/suites/whole/test_newcomer.py::test_"
    assert group_of(whole + "a[ping]") == group_of(whole + "b")
    alone = request.node.nodeid
    assert group_of(alone) == alone
    assert all((request.config.rootpath / start).exists() for start in TOGETHER)
