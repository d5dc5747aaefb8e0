"""The agent takes over a device of another system with the token that was issued for it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_django.live_server_helper import LiveServer

from devices.models import Device
from devices.onboarding.imports import ImportReport
from devices.onboarding.upgrades import IssuedToken, issue_tokens, undo_upgrades
from natsbridge.identity.jwt import decode_jwt
from tenants.models import Credential, Tenant, User
from tests.devices.agent.support import AGENT
from tests.support.waiting import SAFETY_NET

pytestmark = pytest.mark.django_db(transaction=True)


def take_over(folder: Path, server: str, issued: IssuedToken) -> "subprocess.CompletedProcess[str]":
    environment = {
        "PATH": os.defpath,
        "WEGWEISER_CONFIG_DIR": str(folder),
        "WEGWEISER_SERVER": server,
        "WEGWEISER_DEVICE_TOKEN": issued.token,
    }
    command = [sys.executable, str(AGENT), "--device", str(issued.device), "--enroll-only"]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=SAFETY_NET
    )


def test_an_agent_moves_over_with_its_token_and_a_key_of_its_own(
    live_server: LiveServer, imported: ImportReport, tenant_a: Tenant, alice: User, tmp_path: Path
) -> None:
    issued, other, _ = issue_tokens(tenant_a, None, by=alice)
    folder = tmp_path / "agent"
    done = take_over(folder, live_server.url, issued)
    assert (done.returncode, done.stdout.strip()) == (0, str(issued.device)), done.stderr
    configuration = json.loads((folder / "agent.json").read_text())
    public = Device.objects.get(pk=issued.device).nkey_public
    assert decode_jwt(configuration["jwt"])["sub"] == public
    assert configuration["device_token"] == issued.token
    assert Credential.objects.live().filter(device_uuid=issued.device).exists()
    undo_upgrades(tenant_a, None, by=alice)
    refused = take_over(tmp_path / "other", live_server.url, other)
    assert refused.returncode != 0
    assert "device token is not valid" in refused.stderr
