"""A tenant's place at the broker: made, repaired, and the credential that opens it."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from natsbridge.errors import BrokerUnavailable
from tenants.actions.limits import set_limits
from tenants.actions.suspension import suspend_tenant
from tenants.actions.tenants import create_tenant
from tenants.broker import provisioning, provisioning_task
from tenants.models import BrokerAccount, BrokerKey, Credential, Group, Tenant
from tests.support.people import enrol
from tests.support.system import System, eventually


def provision(tenant: Tenant | str, *arguments: str) -> tuple[str, str]:
    """What the command wrote to standard output and to standard error."""
    out, err = io.StringIO(), io.StringIO()
    name = str(tenant.pk) if isinstance(tenant, Tenant) else tenant
    call_command("provision_tenant_creds", name, *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_it_says_what_it_changed_and_the_second_time_that_nothing_did(
    system: System, tenant_a: Tenant
) -> None:
    credentials, said = provision(tenant_a)
    assert "created" in said
    assert "BEGIN NATS USER JWT" in credentials
    assert BrokerAccount.objects.get(tenant=tenant_a).provisioned_at
    assert "nothing to change" in provision(tenant_a)[1]
    assert "nothing to change" in provision("Acme")[1]


def test_the_credential_goes_to_a_file_that_only_its_owner_reads(
    system: System, tenant_a: Tenant, tmp_path: Path
) -> None:
    path = tmp_path / "tenant.creds"
    out, _ = provision(tenant_a, "--out", str(path))
    assert out == ""
    assert path.stat().st_mode & 0o777 == 0o600
    assert "BEGIN USER NKEY SEED" in path.read_text()
    assert list(tmp_path.glob(".tenant.creds*")) == []


def test_the_credential_opens_the_tenants_space_and_nothing_else(
    system: System, group_a: Group, tenant_b: Tenant
) -> None:
    agent = system.running_agent(enrol(group_a, "anna-laptop"))
    tenant = system.tenant_agent(agent)
    tenant.publish(f"tenant.{agent.tenant}.note")
    assert tenant.refusals == []
    for forbidden in (
        f"tenant.{tenant_b.pk}.note",
        f"tenant.{agent.tenant}.device.{agent.device}.command",
        "$JS.API.STREAM.LIST",
        "command.x.y",
    ):
        tenant.refusals.clear()
        tenant.publish(forbidden)
        assert "permissions violation" in str(tenant.refusals), forbidden


def test_an_account_that_the_server_lost_is_made_again(system: System, tenant_a: Tenant) -> None:
    provision(tenant_a)
    system.lose_disk()
    assert "created" in provision(tenant_a)[1]


def test_a_tenant_made_in_the_admin_is_provisioned_by_the_running_subscriber(
    system: System,
) -> None:
    system.start_subscriber()
    tenant = create_tenant(name="Gamma")
    eventually(BrokerAccount.objects.filter(tenant=tenant).exclude(provisioned_at=None).exists)


def test_a_subscriber_that_starts_repairs_what_the_server_lost(
    system: System, group_a: Group
) -> None:
    enrolled = enrol(group_a, "anna-laptop")
    system.running_agent(enrolled)
    system.stop_subscriber()
    system.lose_disk()
    system.start_subscriber()
    eventually(lambda: system.lets_in(enrolled))


def test_a_running_subscriber_repairs_what_the_server_lost(
    system: System, group_a: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provisioning_task, "POLL_SECONDS", 1.0)
    enrolled = enrol(group_a, "anna-laptop")
    system.running_agent(enrolled)
    system.lose_disk()
    eventually(lambda: system.lets_in(enrolled))


def test_two_who_provision_one_tenant_at_once_take_turns(system: System, tenant_a: Tenant) -> None:
    def once(_: int) -> list[str]:
        try:
            return provisioning.provision(tenant_a)
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as threads:
        changes = sorted(map(len, threads.map(once, range(3))))
    assert changes == [0, 0, 2]
    assert BrokerAccount.objects.get(tenant=tenant_a).last_error == ""


def test_without_a_server_it_says_so_and_the_row_keeps_the_reason(
    system: System, tenant_a: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provisioning, "PATIENCE_SECONDS", 0.5)
    system.server.stop()
    with pytest.raises(CommandError, match="did not answer") as failed:
        provision(tenant_a)
    assert isinstance(failed.value.__cause__, BrokerUnavailable)
    account = BrokerAccount.objects.get(tenant=tenant_a)
    assert account.provisioned_at is None
    assert "did not answer" in account.last_error


@pytest.mark.parametrize("name", ["nobody", "00000000-0000-0000-0000-000000000000"])
def test_an_unknown_tenant_is_an_error_in_words(db: None, name: str) -> None:
    with pytest.raises(CommandError, match="no tenant"):
        provision(name)


def test_a_file_that_cannot_be_written_is_an_error_in_words(
    system: System, tenant_a: Tenant, tmp_path: Path
) -> None:
    provision(tenant_a)
    for path in (tmp_path / "missing" / "tenant.creds", tmp_path):
        with pytest.raises(CommandError, match="Cannot write"):
            provision(tenant_a, "--rotate", "--overlap", "0", "--out", str(path))
    assert Credential.objects.live().count() == 1, "none was issued, none ended"


def test_a_file_that_cannot_be_written_any_more_does_not_take_the_credential_with_it(
    system: System, tenant_a: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    out = io.StringIO()
    with pytest.raises(CommandError, match=r"No space left.*standard output"):
        call_command("provision_tenant_creds", "Acme", "--out", str(tmp_path / "x"), stdout=out)
    assert "BEGIN USER NKEY SEED" in out.getvalue()
    assert list(tmp_path.glob("*x*")) == []


def test_keys_of_a_suspended_tenant_are_not_rotated_when_that_is_refused(
    system: System, tenant_a: Tenant
) -> None:
    provision(tenant_a)
    suspend_tenant(tenant_a, by=None, reason="unpaid")
    before = set(BrokerKey.objects.values_list("public_key", flat=True))
    with pytest.raises(CommandError, match="suspended"):
        provision(tenant_a, "--rotate-keys")
    assert set(BrokerKey.objects.values_list("public_key", flat=True)) == before


def test_claims_that_grew_too_large_are_refused_in_words_and_a_suspension_gets_through(
    system: System, tenant_a: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenants.broker.claims.MOST_REVOCATIONS", 10**6)
    provision(tenant_a)
    now = timezone.now()
    Credential.objects.bulk_create(
        Credential(tenant=tenant_a, kind="jwt", public_key=f"U{n:055}", ended_at=now)
        for n in range(12_000)
    )
    with pytest.raises(CommandError, match="--rotate-keys --overlap 0"):
        provision(tenant_a)
    suspend_tenant(tenant_a, by=None, reason="unpaid")
    assert provisioning.provision(tenant_a)
    assert provision(tenant_a, "--check")[0] == "Acme: agrees\n"


def test_seeds_are_encrypted_at_rest(tenant_a: Tenant) -> None:
    for key in tenant_a.broker_keys.all():
        assert key.seed.startswith("SA")
        assert key.seed not in key.seed_encrypted


def test_a_rotation_puts_a_new_credential_in_the_place_of_the_old_one(
    system: System, tenant_a: Tenant
) -> None:
    provision(tenant_a)
    out, _ = provision(tenant_a, "--rotate", "--overlap", "30m")
    assert "BEGIN NATS USER JWT" in out
    with pytest.raises(CommandError, match="running until"):
        provision(tenant_a, "--rotate")
    out, _ = provision(tenant_a, "--rotate", "--password", "--overlap", "0")
    username, password = out.split()
    assert username == f"tenant_{tenant_a.pk}"
    assert len(password) == 32
    listed, _ = provision(tenant_a, "--list")
    assert [line.split()[1:3] for line in listed.splitlines()] == [
        ["password", "live"],
        ["jwt", "live"],
        ["jwt", "ending"],
    ]
    assert password not in listed


def test_check_says_tenant_by_tenant_whether_broker_and_database_agree(
    system: System, tenant_a: Tenant, tenant_b: Tenant
) -> None:
    provision(tenant_a)
    provision(tenant_b)
    assert provision(tenant_a, "--check")[0] == "Acme: agrees\n"
    set_limits(tenant_a, by=None, max_connections=3, storage_bytes=8 * 1024**2)
    out = io.StringIO()
    with pytest.raises(CommandError, match="1 of 2 tenants differ"):
        call_command("provision_tenant_creds", "--check", stdout=out)
    assert "Beta: agrees" in out.getvalue()
    assert "Acme: differs" in out.getvalue()
    assert "claims: limits" in out.getvalue()
    assert "max_bytes" in out.getvalue()
    provision(tenant_a)
    assert "agrees" in provision(tenant_a, "--check")[0]


def test_signing_keys_rotate_and_the_old_ones_go_after_the_overlap(
    system: System, group_a: Group
) -> None:
    enrolled = enrol(group_a, "anna-laptop")
    agent = system.running_agent(enrolled)
    provision(group_a.tenant, "--rotate-keys")
    assert agent.client.is_connected
    BrokerKey.objects.exclude(retires_at=None).update(retires_at=timezone.now())
    eventually(lambda: agent.client.is_closed)
    assert system.lets_in(enrolled)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Acme", "--rotate", "--overlap", "1 day"], "is not a valid overlap"),
        (["Acme", "--rotate", "--overlap", "-1"], "overlap"),
        (["Acme", "--all"], "an effect only with --rotate"),
        (
            ["Acme", "--overlap", "1h"],
            "--overlap has an effect only with --rotate or --rotate-keys",
        ),
        (["Acme", "--list", "--reason", "x"], "--reason has an effect only with --revoke"),
        (["Acme", "--list", "--password"], "issues no credential"),
        (["Acme", "--check", "--out", "x"], "issues no credential"),
        (["Acme", "--revoke", "5", "--reason", " "], "must not be empty"),
        (["Acme", "--revoke", "5"], "no credential 5"),
        ([], "TENANT is required"),
    ],
)
def test_what_makes_no_sense_is_an_error_in_words(
    tenant_a: Tenant, arguments: list[str], words: str
) -> None:
    with pytest.raises(CommandError, match=words):
        call_command("provision_tenant_creds", *arguments)


def test_one_credential_is_revoked_with_a_reason(system: System, tenant_a: Tenant) -> None:
    provision(tenant_a)
    number = str(tenant_a.credentials.get().pk)
    with pytest.raises(CommandError, match="--reason is required"):
        provision(tenant_a, "--revoke", number)
    provision(tenant_a, "--revoke", number, "--reason", "leaked")
    assert "leaked" in provision(tenant_a, "--list")[0]
