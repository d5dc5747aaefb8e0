"""What the tests lean on: that a test begins with empty tables, and that groups stay together."""

import pytest
from django.apps import apps
from django.core.management import call_command

from devices.models import Device
from tenants.models import User
from tests.plugin import TOGETHER, group_of


@pytest.mark.django_db(transaction=True)
def test_after_a_test_that_commits_no_table_has_a_row(alice: User, device_a: Device) -> None:
    call_command("flush", interactive=False, reset_sequences=False, inhibit_post_migrate=True)
    left = [model._meta.label for model in apps.get_models() if model._base_manager.exists()]
    assert left == []


def test_tests_that_share_something_costly_have_one_worker(request: pytest.FixtureRequest) -> None:
    whole = "tests/suites/whole/test_newcomer.py::test_"
    assert group_of(whole + "a[ping]") == group_of(whole + "b")
    alone = request.node.nodeid
    assert group_of(alone) == alone
    assert all((request.config.rootpath / start).exists() for start in TOGETHER)
