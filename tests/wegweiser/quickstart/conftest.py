import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wegweiser.quickstart.processes import Child, Directories, spawn

SpawnPython = Callable[..., Child]


@pytest.fixture
def directories(tmp_path: Path) -> Directories:
    return Directories(tmp_path)


@pytest.fixture
def spawn_python(directories: Directories) -> Iterator[SpawnPython]:
    """`spawn_python(code, **options)`: a child that runs this code; stopped when the test ends."""
    started: list[Child] = []

    def spawn_it(code: str, name: str = "child", **options: object) -> Child:
        command = [sys.executable, "-c", code]
        child = spawn(name, command, directories, environment=os.environ, **options)
        started.append(child)
        return child

    yield spawn_it
    for child in started:
        child.stop()
