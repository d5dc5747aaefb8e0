"""`manage.py import_devices`: what it says, and that a dry run writes nothing."""

from io import StringIO
from pathlib import Path
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from devices.models import Device
from tenants.models import Group
from tests.devices.onboarding.conftest import lines_of


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("import_devices", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.csv"
    path.write_bytes(lines_of([uuid4() for _ in range(3)]))
    return path


def test_a_file_is_looked_at_and_imported(group_a: Group, file: Path) -> None:
    arguments = ("Acme", str(file), "--group", "Laptops")
    assert run(*arguments, "--dry-run") == "3 new, 0 already there, nothing was written\n"
    assert not Device.objects.exists()
    assert run(*arguments) == "3 new, 0 already there\n"
    assert Device.objects.filter(group=group_a).count() == 3
    assert run(*arguments) == "0 new, 3 already there\n"


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
def test_every_error_is_named(
    group_a: Group, file: Path, dry_run: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_bytes(lines_of(["x", "y"]))
    with pytest.raises(CommandError):
        run("Acme", str(file), "--group", str(group_a.pk), *dry_run)
    said = capsys.readouterr().err
    assert 'line 2, uuid: "x" is not a valid UUID.' in said
    assert 'line 3, uuid: "y" is not a valid UUID.' in said
    assert not Device.objects.exists()


def test_a_group_that_is_not_there_is_named(group_a: Group, file: Path) -> None:
    with pytest.raises(CommandError, match="Acme has no group 'Servers'"):
        run("Acme", str(file), "--group", "Servers")
