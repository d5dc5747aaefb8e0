import pytest

from natsbridge.server.config import MAX_FILE_STORE
from tenants.actions.limits import set_limits, tenant_limits
from tenants.broker.accounts import ensure_platform_keys
from tenants.broker.claims import stream_bytes, tenant_account
from tenants.errors import LimitRefused
from tenants.models import Action, AuditEntry, BrokerAccount, Tenant, User


@pytest.fixture(autouse=True)
def _platform_keys(db: None) -> None:
    ensure_platform_keys()


def test_a_tenants_own_limits_stand_before_the_installations(tenant_a: Tenant, alice: User) -> None:
    set_limits(tenant_a, by=alice, max_connections=7, max_payload_bytes=-1)
    held = tenant_account(tenant_a.pk).limits
    assert (held.connections, held.payload, held.subscriptions) == (7, -1, 1000)
    assert tenant_limits(tenant_a)["max_connections"] == {"value": 7, "default": 10_000, "own": 7}
    entry = AuditEntry.objects.get(action=Action.TENANT_LIMITS)
    assert entry.detail["max_connections"] == {"from": None, "to": 7}
    set_limits(tenant_a, by=alice, max_connections=None)
    assert tenant_account(tenant_a.pk).limits.connections == 10_000


def test_a_change_is_pending_and_the_same_value_again_is_not(tenant_a: Tenant) -> None:
    BrokerAccount.objects.update(wanted_at="2026-01-01T00:00Z", provisioned_at="2026-01-02T00:00Z")
    set_limits(tenant_a, by=None, max_connections=None)
    assert not BrokerAccount.objects.get().waits
    set_limits(tenant_a, by=None, max_connections=5)
    assert BrokerAccount.objects.get().waits


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_connections", 0),
        ("max_connections", -2),
        ("max_connections", True),
        ("max_payload_bytes", 2**31),
        ("storage_bytes", 1024**2 - 1),
        ("storage_bytes", MAX_FILE_STORE + 1),
        ("messages", 5),
    ],
)
def test_what_no_tenant_can_have_is_refused_in_words(
    tenant_a: Tenant, name: str, value: int
) -> None:
    with pytest.raises(LimitRefused, match=name):
        set_limits(tenant_a, by=None, **{name: value})


def test_the_stream_stays_below_the_storage(tenant_a: Tenant) -> None:
    assert stream_bytes(32 * 1024**2) == 24 * 1024**2
    assert stream_bytes(-1) == 24 * 1024**2
