"""`manage.py device_credentials`, `suspend_tenant` and `resume_tenant`."""

import io
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from devices.models import Device
from tenants import actions
from tenants.models import Credential, Group, Tenant
from tests.people import enrol


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_a_device_is_rotated_revoked_and_reinstated(group_a: Group) -> None:
    actions.ensure_platform_keys()
    enrolled = enrol(group_a, "anna-laptop")
    assert enrolled.jwt
    name = str(enrolled.device.pk)
    assert "ending" in run("device_credentials", name, "--rotate")
    with pytest.raises(CommandError, match="under way until"):
        run("device_credentials", name, "--rotate")
    with pytest.raises(CommandError, match="Say why"):
        run("device_credentials", name, "--revoke")
    assert "stolen" in run("device_credentials", name, "--revoke", "--reason", "stolen")
    assert not Credential.objects.live().exists()
    run("device_credentials", name, "--reinstate")
    assert Device.objects.get().revoked_at is None
    for idle in (["--reason", "stolen"], ["--overlap", "1h"]):
        with pytest.raises(CommandError, match="goes with"):
            run("device_credentials", name, *idle)
    with pytest.raises(CommandError, match="There is no device"):
        run("device_credentials", str(uuid4()))


def test_a_tenant_is_suspended_and_resumed(tenant_a: Tenant) -> None:
    with pytest.raises(CommandError, match="Say why"):
        run("suspend_tenant", "Acme", "--reason", "")
    run("suspend_tenant", "Acme", "--reason", "unpaid")
    assert Tenant.objects.get().suspended_reason == "unpaid"
    run("resume_tenant", "Acme")
    assert Tenant.objects.get().suspended_at is None
