"""`manage.py device_credentials`, `suspend_tenant` and `resume_tenant`."""

import io
import re
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from devices.inventory.archive import archive_device
from devices.models import Device
from tenants.broker.accounts import ensure_platform_keys
from tenants.models import Credential, Group, Tenant
from tests.support.people import enrol


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out, stderr=out)
    return out.getvalue()


def test_a_device_is_rotated_revoked_and_reinstated(group_a: Group) -> None:
    ensure_platform_keys()
    enrolled = enrol(group_a, "anna-laptop")
    assert enrolled.jwt
    name = str(enrolled.device.pk)
    assert run("device_credentials", name).startswith("anna-laptop: not revoked\n")
    rotated = run("device_credentials", name, "--rotate")
    assert "anna-laptop is being rotated" in rotated
    assert "ending" in rotated
    with pytest.raises(CommandError, match="running until"):
        run("device_credentials", name, "--rotate")
    with pytest.raises(CommandError, match="--reason is required"):
        run("device_credentials", name, "--revoke")
    revoke = ("device_credentials", name, "--revoke", "--reason", "stolen")
    did, device, *_ = run(*revoke).splitlines()
    assert did == "anna-laptop is revoked"
    assert re.fullmatch(r"anna-laptop: revoked since \S+ \S+.*: stolen", device)
    assert run(*revoke).startswith("anna-laptop was revoked already\n")
    Device.objects.filter(pk=name).update(revoked_by_name="alice")
    assert " by alice: stolen" in run("device_credentials", name).splitlines()[0]
    assert not Credential.objects.live().exists()
    reinstated = run("device_credentials", name, "--reinstate")
    assert reinstated.startswith("anna-laptop is reinstated\nanna-laptop: not revoked\n")
    again = run("device_credentials", name, "--reinstate")
    assert again.startswith("anna-laptop was not revoked\n")
    assert Device.objects.get().revoked_at is None
    for idle in (["--reason", "stolen"], ["--overlap", "1h"]):
        with pytest.raises(CommandError, match="an effect only with"):
            run("device_credentials", name, *idle)
    with pytest.raises(CommandError, match="There is no device"):
        run("device_credentials", str(uuid4()))


def test_a_tenant_is_suspended_and_resumed(tenant_a: Tenant) -> None:
    with pytest.raises(CommandError, match=r"--reason is required|must not be empty"):
        run("suspend_tenant", "Acme", "--reason", "")
    run("suspend_tenant", "Acme", "--reason", "unpaid")
    assert Tenant.objects.get().suspended_reason == "unpaid"
    assert run("resume_tenant", "Acme") == "Acme is resumed\n"
    assert run("resume_tenant", "Acme") == "Acme was not suspended\n"
    assert Tenant.objects.get().suspended_at is None


def test_an_archived_device_is_not_reinstated_without_being_brought_back(group_a: Group) -> None:
    device = enrol(group_a, "anna-laptop").device
    archive_device(device, by=None)
    with pytest.raises(CommandError, match="unarchive it"):
        run("device_credentials", str(device.pk), "--reinstate")
