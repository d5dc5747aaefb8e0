import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import SAFETY_NET
from tests.wegweiser.quickstart.conftest import SpawnPython
from wegweiser.quickstart.errors import ChildDied, Interrupted, NotReady, SetupFailed
from wegweiser.quickstart.processes import Child, Directories, PidRecord, end_leftovers

# In short naps: Python looks for a signal that came just before a long one only after it.
SLEEP = "import time; print('up', flush=True); [time.sleep(0.05) for _ in range(1200)]"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('up', flush=True); time.sleep(60)"
)
WITH_A_CHILD_OF_ITS_OWN = (
    "import subprocess, time; child = subprocess.Popen(['sleep', '60']);"
    "print(child.pid, flush=True); time.sleep(60)"
)


def wait_for_output(child: Child) -> str:
    child.wait_until(lambda: child.log.stat().st_size > child.log_start, limit=SAFETY_NET)
    return child.tail_of_log()


def wait_for_end(process: psutil.Process, limit: float = SAFETY_NET) -> bool:
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if not psutil.pid_exists(process.pid) or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_a_child_is_stopped_with_its_signal_and_its_pid_file_goes(
    spawn_python: SpawnPython,
) -> None:
    child = spawn_python(SLEEP, stop_signal=signal.SIGINT)
    wait_for_output(child)
    assert child.pid_file.exists()
    child.stop()
    assert child.process.returncode == -signal.SIGINT
    assert not child.pid_file.exists()


def test_a_child_that_ignores_its_signal_is_killed_after_the_limit(
    spawn_python: SpawnPython,
) -> None:
    child = spawn_python(STUBBORN, stop_limit=0.2)
    wait_for_output(child)
    child.stop()
    assert child.process.returncode == -signal.SIGKILL


def test_what_a_child_started_ends_with_it(spawn_python: SpawnPython) -> None:
    child = spawn_python(WITH_A_CHILD_OF_ITS_OWN)
    grandchild = psutil.Process(int(wait_for_output(child)))
    child.stop()
    assert wait_for_end(grandchild)


def test_a_child_that_dies_is_named_with_the_end_of_its_log(spawn_python: SpawnPython) -> None:
    code = "[print(f'line {number}') for number in range(100)]; raise SystemExit(3)"
    child = spawn_python(code, name="flaky")
    with pytest.raises(ChildDied) as raised:
        child.wait_until(lambda: False, limit=SAFETY_NET)
    message = str(raised.value)
    assert "flaky ended by itself (status 3)" in message
    assert message.endswith("line 99")
    assert "line 79" not in message


def test_the_log_of_an_earlier_run_is_not_shown_as_this_ones(spawn_python: SpawnPython) -> None:
    spawn_python("print('of the first')").process.wait(SAFETY_NET)
    second = spawn_python("print('of the second')")
    second.process.wait(SAFETY_NET)
    assert second.tail_of_log() == "of the second"
    assert "of the first" in second.log.read_text()


def test_waiting_ends_with_not_ready_after_the_limit(spawn_python: SpawnPython) -> None:
    child = spawn_python(SLEEP)
    with pytest.raises(NotReady, match="child was not ready"):
        child.wait_until(lambda: False, limit=0.2)


def test_waiting_can_be_interrupted(spawn_python: SpawnPython) -> None:
    def interrupt() -> None:
        raise Interrupted("enough")

    child = spawn_python(SLEEP)
    with pytest.raises(Interrupted):
        child.wait_until(lambda: False, limit=SAFETY_NET, check=interrupt)
    with pytest.raises(Interrupted):
        child.wait_to_end(limit=SAFETY_NET, check=interrupt)


def test_a_step_that_fails_is_named_with_the_end_of_its_log(spawn_python: SpawnPython) -> None:
    child = spawn_python("import sys; sys.exit('no such table')", name="prepare")
    with pytest.raises(SetupFailed, match=r"prepare failed \(status 1\)(.|\n)*no such table"):
        child.wait_to_end(limit=SAFETY_NET)


def test_children_get_their_signal_when_the_one_who_started_them_is_killed(
    tmp_path: Path,
) -> None:
    code = (
        "import os, sys, time; from pathlib import Path;"
        "from wegweiser.quickstart.processes import Directories, spawn;"
        "child = spawn('child', [sys.executable, '-c', 'import time; time.sleep(60)'],"
        f"Directories(Path({str(tmp_path)!r})), environment=os.environ);"
        "print(child.process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        # Not before the launcher has become the program.
        while "launcher.py" in " ".join(child.cmdline()):
            time.sleep(0.02)
        parent.kill()
    if sys.platform == "linux":
        assert wait_for_end(child)
    assert end_leftovers(Directories(tmp_path)) in (["child"], [])
    assert wait_for_end(child)


def test_leftovers_are_ended_even_when_they_ignore_their_signal(
    spawn_python: SpawnPython, directories: Directories
) -> None:
    child = spawn_python(STUBBORN, name="stubborn")
    wait_for_output(child)
    assert end_leftovers(directories, limit=0.2) == ["stubborn"]
    assert not psutil.pid_exists(child.process.pid)
    assert list(directories.run.iterdir()) == []


def test_another_process_that_got_the_pid_is_left_alone(directories: Directories) -> None:
    directories.run.mkdir()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        created = psutil.Process(stranger.pid).create_time() - 3600
        record = PidRecord(stranger.pid, created, int(signal.SIGKILL))
        (directories.run / "web.pid").write_text(record.to_json())
        assert end_leftovers(directories) == []
        assert stranger.poll() is None
        assert not (directories.run / "web.pid").exists()
        stranger.kill()


@pytest.mark.parametrize("content", ["", "12", "{}", '{"pid": "x"}', json.dumps({"pid": 1})])
def test_a_damaged_pid_file_is_removed(directories: Directories, content: str) -> None:
    directories.run.mkdir()
    (directories.run / "web.pid").write_text(content)
    assert end_leftovers(directories) == []
    assert list(directories.run.iterdir()) == []


def test_a_log_that_has_grown_too_large_makes_room(
    spawn_python: SpawnPython, directories: Directories
) -> None:
    directories.logs.mkdir()
    log = directories.logs / "child.log"
    log.touch()
    os.truncate(log, 10_000_001)
    spawn_python("print('new')").process.wait(SAFETY_NET)
    assert log.read_text() == "new\n"
    assert (directories.logs / "child.log.1").stat().st_size == 10_000_001
