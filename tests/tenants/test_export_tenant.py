"""`manage.py export_tenant`: to a file of its own, or to standard output."""

import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from devices.models import Device
from tenants.models import Action, AuditEntry

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_tenant_is_exported_to_a_file_that_nobody_else_reads(
    device_a: Device, tmp_path: Path
) -> None:
    path = tmp_path / "acme.jsonl"
    call_command("export_tenant", "Acme", "--out", str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[-1] == {"end": {"rows": len(lines) - 2}}
    assert str(device_a.pk) in {line.get("pk") for line in lines}
    assert AuditEntry.objects.filter(action=Action.EXPORT_DOWNLOADED).count() == 1
    with pytest.raises(CommandError, match="exists"):
        call_command("export_tenant", "Acme", "--out", str(path))
