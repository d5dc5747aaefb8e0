"""As an ordinary user these show that nothing changes; as root, that root is given up."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from wegweiser.quickstart.processes import UNPRIVILEGED_USER, launch_command

AS_ROOT = os.geteuid() == 0
# Asks access(2) about itself, as Postgres does, and then reads a file.
USES_BOTH = 'id -u; test -x "$0" && echo usable; cat "$1"'


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that nobody else may enter, as a clone in /root is, with a program and a file."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(os.path.realpath("/bin/sh"), Path(folder) / "program")
        (Path(folder) / "program").chmod(0o755)
        data = Path(folder) / "data"
        data.write_text("data")
        data.chmod(0o600)
        if AS_ROOT:
            account = pwd.getpwnam(UNPRIVILEGED_USER)
            os.chown(data, account.pw_uid, account.pw_gid)
        yield Path(folder)


def owner() -> int:
    return pwd.getpwnam(UNPRIVILEGED_USER).pw_uid if AS_ROOT else os.geteuid()


def run(command: list[str | Path], files: list[Path]) -> str:
    finished = subprocess.run(
        launch_command(command, unprivileged=files), capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_a_program_that_only_root_can_reach_runs_unprivileged(closed: Path, mode: int) -> None:
    program, data = closed / "program", closed / "data"
    program.chmod(mode)
    output = run([program, "-c", USES_BOTH, program, data], [data])
    assert output.split() == [str(owner()), "usable", "data"]


def test_what_everybody_can_reach_runs_without_any_privilege() -> None:
    status = run(["/bin/cat", "/proc/self/status"], [])
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert fields["Uid"].split() == [str(owner())] * 4
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(fields[kind], 16) == 0
    if AS_ROOT:
        assert fields["Groups"].split() == []


def test_no_file_of_another_user_can_be_written(closed: Path) -> None:
    """The right to pass folders is not the right to change what is in them."""
    program, data = closed / "program", closed / "data"
    if AS_ROOT:
        os.chown(data, 0, 0)
    data.chmod(0o444)
    write = 'echo changed >"$1" || echo refused'
    output = run([program, "-c", write, program, data], [data])
    assert output.split() == ["refused"]
    assert data.read_text() == "data"
