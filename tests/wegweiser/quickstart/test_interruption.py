import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wegweiser.quickstart.errors import Interrupted
from wegweiser.quickstart.interruption import SIGNALS, Interruption


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield Interruption()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_nothing_is_raised_before_a_signal(interruption: Interruption) -> None:
    interruption.check()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_raised_when_it_is_asked_about(
    interruption: Interruption, number: signal.Signals
) -> None:
    os.kill(os.getpid(), number)
    with pytest.raises(Interrupted, match=number.name):
        interruption.check()


def test_the_end_of_make_counts_although_it_cannot_pass_on_a_sigkill(tmp_path: Path) -> None:
    make = shutil.which("make")
    assert make is not None
    program = tmp_path / "program.py"
    program.write_text(
        "import time\n"
        "from wegweiser.quickstart.errors import Interrupted\n"
        "from wegweiser.quickstart.interruption import Interruption\n"
        "interruption = Interruption()\n"
        "print('up', flush=True)\n"
        "try:\n"
        "    for _ in range(1200):\n"
        "        interruption.check()\n"
        "        time.sleep(0.05)\n"
        "except Interrupted as reason:\n"
        "    print(reason, flush=True)\n"
    )
    (tmp_path / "Makefile").write_text(f"run:\n\t@:; {sys.executable} {program}\n")
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(
        [make, "--no-print-directory", "run"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.kill()
        # Not waited for yet: as a zombie, make must count as ended too.
        assert process.stdout.readline() == "the make that started this has ended\n"
