"""`manage.py tenant_messages` on a real broker: what it prints, and what its login may not do."""

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from natsbridge.protocol.subjects import tenant_stream_name
from tenants.actions.suspension import suspend_tenant
from tenants.broker import replay_window
from tenants.broker.logins import replay_login
from tenants.models import Action, AuditEntry, Group, Tenant
from tests.support.people import enrol
from tests.support.system import System


def printed(tenant: Tenant, *options: str) -> list[dict[str, Any]]:
    out = io.StringIO()
    call_command("tenant_messages", str(tenant.pk), *options, stdout=out, stderr=io.StringIO())
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_it_prints_what_the_stream_holds_and_its_login_may_only_read(
    system: System, group_a: Group, group_b: Group
) -> None:
    tenant = group_a.tenant
    call_command("jetstream_init", stdout=io.StringIO(), stderr=io.StringIO())
    first, second = (system.agent(enrol(group_a, name)) for name in ("first", "second"))
    first.heartbeat(session_id="one")
    second.report("status.heartbeat", {"session_id": "two"})
    first.report("monitoring", b"\x1b no json")
    system.agent(enrol(group_b, "foreign")).heartbeat()
    found = printed(tenant)
    assert [(each["device"], each["kind"]) for each in found] == [
        (str(first.device), "heartbeat"),
        (str(second.device), "heartbeat"),
        (str(first.device), "monitoring"),
    ]
    assert found[0]["body"]["session_id"] == "one"
    assert found[0]["subject"] == first.subject("heartbeat")
    assert found[2]["text"] == b"\x1b no json".hex(" ")
    assert [each["sequence"] for each in found] == [1, 2, 3]
    at = datetime.fromisoformat(found[0]["time"][:19]).replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - at) < timedelta(hours=1)
    assert printed(tenant, "--since", "2h") == found
    assert printed(tenant, "--since", "0") == []
    assert printed(tenant, "--device", str(second.device)) == [found[1]]
    assert printed(tenant, "--device", str(uuid4())) == []
    assert printed(tenant, "--kind", "heartbeat", "--device", str(first.device)) == [found[0]]
    assert printed(tenant, "--kind", "monitoring", "--since", "1d") == [found[2]]
    read = AuditEntry.objects.filter(action=Action.STAFF_READ, tenant_uuid=tenant.pk)
    assert read.count() == 7
    assert read.filter(detail__kind="monitoring").count() == 1
    stream, login = tenant_stream_name(tenant.pk), replay_login(tenant)
    assert system.may_publish(login, f"$JS.API.STREAM.MSG.GET.{stream}")
    for order in ("DELETE", "PURGE", "MSG.DELETE", "UPDATE", "CREATE"):
        assert not system.may_publish(login, f"$JS.API.STREAM.{order}.{stream}")
    for subject in (first.subject("heartbeat"), first.subject("command"), "$JS.API.STREAM.NAMES"):
        assert not system.may_publish(login, subject)


def test_errors_say_what_is_wrong(
    system: System, tenant_a: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_window, "PATIENCE_SECONDS", 1.0)
    with pytest.raises(CommandError, match="There is no tenant 'Nobody'"):
        call_command("tenant_messages", "Nobody")
    for options in (["--since", "2 weeks"], ["--device", "x"], ["--kind", "gossip"]):
        with pytest.raises(CommandError, match=options[0]):
            call_command("tenant_messages", "Acme", *options)
    with pytest.raises(CommandError, match="Is it running, and Acme provisioned"):
        call_command("tenant_messages", "Acme")
    call_command("jetstream_init", stdout=io.StringIO(), stderr=io.StringIO())
    assert printed(tenant_a) == []
    system.server.stop()
    with pytest.raises(CommandError, match="admitted nobody within 1 s"):
        call_command("tenant_messages", "Acme")
    suspend_tenant(tenant_a, by=None, reason="the invoice")
    with pytest.raises(CommandError, match="Acme is suspended"):
        call_command("tenant_messages", "Acme")
