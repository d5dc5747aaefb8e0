"""Who the tests are about: Alice runs tenant A, Bob may look at it, Charlie runs tenant B."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client, TransactionTestCase, override_settings
from django.utils import timezone
from pytest_django import DjangoDbBlocker
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from devices.live import watchers
from devices.models import Device
from devices.presence import connection_limit, events
from natsbridge.models import Coverage
from natsbridge.redis import client
from natsbridge.subscriber.breaker import Breaker
from tenants.access import coalesced, shared_counts
from tenants.actions import sign_ins
from tenants.actions.tenants import create_group, create_organisation, create_tenant
from tenants.audit.coalescing import others_of
from tenants.audit.rules.coalescer import Coalescer
from tenants.models import Group, Role, Tenant, User
from tenants.throttle import requests
from tests.support.broker import StartNats
from tests.support.chromium import chromium
from tests.support.emptying import empty_tables
from tests.support.people import enrol, logged_in, person
from tests.support.static_files import quick_static_files
from tests.support.system import LoopThread, System
from tests.support.web import Web

__all__ = ["chromium", "quick_static_files"]


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[None]:
    with override_settings(PASSWORD_HASHERS=["tests.support.people.QuickArgon2"]):
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick_emptying() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", empty_tables)
        yield


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Ends what a thread of some test has left open, which would keep the database from going."""
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture(autouse=True)
def _failed_logins_of_this_test_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    failures = sign_ins.FailedLogins()
    monkeypatch.setattr(sign_ins, "_failures", failures)
    yield
    failures.cancel()


@pytest.fixture(autouse=True)
def _coalesced_audit_of_this_test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests share one Redis, and an address."""
    alone = coalesced._OwnCount()
    breaker = Breaker("redis, for the throttle of wrong tokens")
    monkeypatch.setattr(shared_counts, "PREFIX", f"wegweiser:refused:{uuid4()}")
    monkeypatch.setattr(shared_counts, "THROTTLE", breaker)
    monkeypatch.setattr(requests, "PREFIX", f"wegweiser:requests:{uuid4()}")
    monkeypatch.setattr(coalesced, "_own_count", alone)
    # What a thread of its own wrote would stay behind in the database.
    for waiting in (alone._later, coalesced._later):
        monkeypatch.setattr(waiting, "ask", lambda: None)


@pytest.fixture(autouse=True)
def _counts_of_this_test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (events.connection_events, connection_limit.limited_devices):
        monkeypatch.setattr(place, "_coalescer", Coalescer(others=others_of))
        monkeypatch.setattr(place, "_newest", {})


@pytest.fixture
def tenant_a(db: None) -> Tenant:
    return create_tenant(name="Acme")


@pytest.fixture
def tenant_b(db: None) -> Tenant:
    return create_tenant(name="Beta")


@pytest.fixture
def group_a(tenant_a: Tenant) -> Group:
    organisation = create_organisation(tenant_a, name="Acme Ltd")
    return create_group(organisation, name="Laptops")


@pytest.fixture
def group_b(tenant_b: Tenant) -> Group:
    organisation = create_organisation(tenant_b, name="Beta GmbH")
    return create_group(organisation, name="Servers")


@pytest.fixture
def alice(tenant_a: Tenant) -> User:
    return person("alice", tenant_a, Role.ADMIN)


@pytest.fixture
def bob(tenant_a: Tenant) -> User:
    return person("bob", tenant_a, Role.VIEWER)


@pytest.fixture
def charlie(tenant_b: Tenant) -> User:
    return person("charlie", tenant_b, Role.ADMIN)


@pytest.fixture
def as_alice(alice: User) -> Client:
    return logged_in(alice)


@pytest.fixture
def as_bob(bob: User) -> Client:
    return logged_in(bob)


@pytest.fixture
def as_charlie(charlie: User) -> Client:
    return logged_in(charlie)


@pytest.fixture
def listening(db: None) -> Coverage:
    """A subscriber listens, so silence means something."""
    return Coverage.objects.create(last_beat=timezone.now())


@pytest.fixture
def device_a(group_a: Group) -> Device:
    return enrol(group_a, "anna-laptop").device


@pytest.fixture
def device_b(group_b: Group) -> Device:
    return enrol(group_b, "berta-server").device


@pytest.fixture
def api() -> APIClient:
    return APIClient()


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture
def system(
    transactional_db: None,
    redis_server: object,
    start_nats: StartNats,
    tmp_path: Path,
    loop_thread: LoopThread,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[System]:
    """A backend with an empty Redis and no subscriber yet: `system.start_subscriber()`."""
    # A test before this one may have taken Redis away, after which pages are left alone a while.
    monkeypatch.setattr(watchers.pause, "until", 0.0)
    settings.NATS_URL = settings.AGENT_NATS_URL = settings.NATS_URL
    client(settings.REDIS_URL).flushall()
    whole = System(start_nats, tmp_path, loop_thread)
    yield whole
    whole.close()


@pytest.fixture(scope="session")
def web(django_db_setup: None, redis_server: object) -> Iterator[Web]:
    web = Web()
    try:
        web.start()
        yield web
    finally:
        web.stop()
