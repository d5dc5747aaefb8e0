"""How many log in at once, by password through the callout and by JWT. Run by `make bench`."""

import asyncio
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import pytest
from django.conf import settings as django_settings
from django.utils.crypto import get_random_string

from natsbridge.identity import claims, nkeys
from natsbridge.models import SubscriberStatus
from tenants.broker.accounts import Purpose, key_pair
from tenants.models import BrokerAccount, Credential, Group, hash_token
from tests.devices.test_nats_subscriber import database_url
from tests.suites.attacks import wire as wire_module
from tests.suites.attacks.wire import Wire
from tests.suites.bench.conftest import Figures
from tests.support.system import System, eventually

LOGINS = 2_000


async def _open_all(port: int) -> list[Wire]:
    return await asyncio.gather(*(Wire.open(port) for _ in range(LOGINS)))


async def _log_in_all(wires: list[Wire], lines: list[bytes]) -> None:
    """At once; raises if one is refused."""
    await asyncio.gather(*(wire.settle(line) for wire, line in zip(wires, lines, strict=True)))


async def _close_all(wires: list[Wire]) -> None:
    for wire in wires:
        await wire.close()


@pytest.fixture
def provisioned(system: System, group_a: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "PATIENCE", 15.0)
    system.start_subscriber()
    eventually(BrokerAccount.objects.exclude(provisioned_at=None).exists)
    system.stop_subscriber()


@pytest.fixture
def callout(provisioned: None) -> Iterator[None]:
    """In a process of its own, as a busy installation runs it."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "nats_subscriber", "--only", "auth"],
        cwd=django_settings.BASE_DIR,
        env=os.environ | {"DATABASE_URL": database_url(), "NATS_URL": django_settings.NATS_URL},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    eventually(lambda: SubscriberStatus.objects.filter(details__has_key="auth.waiting").exists())
    yield
    process.terminate()
    process.wait(20)


def test_logins_at_once(system: System, callout: None, group_a: Group, figures: Figures) -> None:
    tenant = group_a.tenant_id
    devices = [uuid.uuid4() for _ in range(LOGINS)]
    users = [nkeys.generate("user") for _ in devices]
    key = key_pair(Purpose.DEVICE, tenant)
    account = BrokerAccount.objects.get(tenant=tenant).public_key
    jwts = [
        claims.device_user_jwt(
            key,
            account=account,
            device=device,
            user_public=user.public,
            issued_at=int(time.time()),
            expires_at=None,
        )
        for device, user in zip(devices, users, strict=True)
    ]
    # Not one by one: issuing is not what is measured here.
    # Each has an older one besides, which this login ends.
    older, passwords = ([get_random_string(32) for _ in devices] for _ in range(2))
    for words in (older, passwords):
        Credential.objects.bulk_create(
            Credential(
                tenant_id=tenant, device_uuid=device, kind="password", digest=hash_token(word)
            )
            for device, word in zip(devices, words, strict=True)
        )

    wires = system.thread.run(_open_all(system.port), timeout=60)
    lines = [
        wire.login((jwt, user.seed)) for wire, jwt, user in zip(wires, jwts, users, strict=True)
    ]
    with figures.measured("bound: by JWT, without the callout", LOGINS):
        system.thread.run(_log_in_all(wires, lines), timeout=60)
    system.thread.run(_close_all(wires))

    wires = system.thread.run(_open_all(system.port), timeout=60)
    lines = [
        wire.login(None, user=f"device_{device}", **{"pass": word})
        for wire, device, word in zip(wires, devices, passwords, strict=True)
    ]
    with figures.measured("by password, through `nats_subscriber --only auth`", LOGINS):
        system.thread.run(_log_in_all(wires, lines), timeout=60)
    system.thread.run(_close_all(wires))
    assert Credential.objects.live().count() == LOGINS, "the older ones have ended"
