"""Child processes: started with a log and a pid file, stopped in time, never left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from wegweiser.quickstart.errors import ChildDied, NotReady, SetupFailed

LAUNCHER = Path(__file__).with_name("launcher.py")
UNPRIVILEGED_USER = "nobody"
# Start times, in seconds, are reckoned from a boot time that is not always read the same.
CLOCK_TOLERANCE = 1.0
TAIL_LINES = 20
# A log that has grown beyond this many bytes makes room at the next start.
LOG_LIMIT = 10_000_000


@dataclass(frozen=True)
class Directories:
    """Where below a home the children's logs and pid files are."""

    home: Path

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def run(self) -> Path:
        return self.home / "run"


@dataclass
class Child:
    """One process in a session of its own, so that a Ctrl-C in our terminal does not reach it."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    pid_file: Path
    stop_signal: signal.Signals = signal.SIGTERM
    stop_limit: float = 10.0
    log_start: int = 0
    _stopped: bool = False

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def tail_of_log(self, lines: int = TAIL_LINES) -> str:
        """The last lines this process wrote."""
        with self.log.open("rb") as stream:
            size = self.log.stat().st_size
            # A server that set its log aside has begun another.
            start = self.log_start if self.log_start <= size else 0
            stream.seek(max(start, size - 64_000))
            text = stream.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def died(self) -> ChildDied:
        """The error that says so."""
        return ChildDied(
            f"{self.name} ended by itself ({exit_reason(self.process.returncode)}). "
            f"The end of {self.log}:\n{self.tail_of_log() or '(nothing)'}"
        )

    def wait_until(
        self,
        ready: Callable[[], bool],
        limit: float,
        check: Callable[[], None] = lambda: None,
        interval: float = 0.03,
    ) -> None:
        """Return when `ready()` is true. `check` is called at each turn and may raise.

        Raises ChildDied, or NotReady after `limit` seconds.
        """
        deadline = time.monotonic() + limit
        while True:
            check()
            if not self.alive:
                raise self.died()
            if ready():
                return
            if time.monotonic() > deadline:
                raise self._late(limit)
            time.sleep(interval)

    def wait_to_end(self, limit: float, check: Callable[[], None] = lambda: None) -> None:
        """Return when it has ended well. Raises SetupFailed, or NotReady after `limit` seconds."""
        deadline = time.monotonic() + limit
        while self.alive:
            check()
            if time.monotonic() > deadline:
                raise self._late(limit)
            time.sleep(0.03)
        if self.process.returncode != 0:
            raise SetupFailed(
                f"{self.name} failed ({exit_reason(self.process.returncode)}). "
                f"The end of {self.log}:\n{self.tail_of_log() or '(nothing)'}"
            )

    def _late(self, limit: float) -> NotReady:
        return NotReady(
            f"{self.name} was not ready after {limit:.0f} s. "
            f"The end of {self.log}:\n{self.tail_of_log() or '(nothing)'}"
        )

    def stop(self) -> None:
        """Ask it to end, insist after `stop_limit` seconds; leave nothing of its process group."""
        if self._stopped:
            # By now its pid may belong to another process.
            return
        if self.alive:
            with suppress(ProcessLookupError):
                self.process.send_signal(self.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(self.stop_limit)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.pid_file.unlink(missing_ok=True)
        self._stopped = True


def launch_command(
    command: Sequence[str | Path],
    stop_signal: signal.Signals = signal.SIGTERM,
    unprivileged: Sequence[Path] | None = None,
) -> list[str]:
    """`command`, to be run by the launcher as our child.

    With `unprivileged`, and if we are root, it gives up root and can still read these paths.
    """
    options = [str(os.getpid()), str(int(stop_signal))]
    if unprivileged is not None and os.geteuid() == 0:
        options += [UNPRIVILEGED_USER, *map(str, unprivileged)]
    else:
        options.append("")
    return [sys.executable, "-I", "-S", str(LAUNCHER), *options, "--", *map(str, command)]


def spawn(
    name: str,
    command: Sequence[str | Path],
    directories: Directories,
    *,
    environment: Mapping[str, str],
    stop_signal: signal.Signals = signal.SIGTERM,
    stop_limit: float = 10.0,
    unprivileged: Sequence[Path] | None = None,
    working_directory: Path | None = None,
) -> Child:
    """Start a process whose output is added to `logs/NAME.log` of the home."""
    directories.logs.mkdir(parents=True, exist_ok=True)
    directories.run.mkdir(parents=True, exist_ok=True)
    log = directories.logs / f"{name}.log"
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        log_start = output.tell()
        process = subprocess.Popen(
            launch_command(command, stop_signal, unprivileged),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=working_directory,
            start_new_session=True,
        )
    pid_file = directories.run / f"{name}.pid"
    record = PidRecord(process.pid, psutil.Process(process.pid).create_time(), int(stop_signal))
    pid_file.write_text(record.to_json())
    return Child(name, process, log, pid_file, stop_signal, stop_limit, log_start)


@dataclass(frozen=True)
class PidRecord:
    """A process as a pid file names it: the pid alone may belong to another one by now."""

    pid: int
    created: float
    stop_signal: int = field(default=int(signal.SIGTERM))

    def to_json(self) -> str:
        return json.dumps(
            {"pid": self.pid, "created": self.created, "stop_signal": self.stop_signal}
        )

    @classmethod
    def from_json(cls, text: str) -> "PidRecord":
        """Raises ValueError, KeyError or TypeError on anything `to_json` has not written."""
        content = json.loads(text)
        return cls(int(content["pid"]), float(content["created"]), int(content["stop_signal"]))

    def process(self) -> psutil.Process | None:
        """The process meant, if it still runs."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) <= CLOCK_TOLERANCE
            if same and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None


def end_leftovers(directories: Directories, limit: float = 10.0) -> list[str]:
    """End what an earlier run left behind, the youngest first; return the names."""
    found: list[tuple[float, Path, psutil.Process, PidRecord]] = []
    for pid_file in directories.run.glob("*.pid"):
        with suppress(ValueError, KeyError, TypeError):
            record = PidRecord.from_json(pid_file.read_text())
            process = record.process()
            if process is not None:
                found.append((record.created, pid_file, process, record))
                continue
        pid_file.unlink()
    for _, pid_file, process, record in sorted(found, key=lambda each: each[0], reverse=True):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(record.stop_signal)
            with suppress(psutil.TimeoutExpired):
                process.wait(limit)
        # Each child leads a process group of its own, so its pid names the group too.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(record.pid, signal.SIGKILL)
        with suppress(psutil.TimeoutExpired, psutil.NoSuchProcess):
            process.wait(limit)
        pid_file.unlink()
    return [pid_file.stem for _, pid_file, _, _ in found]


def exit_reason(returncode: int) -> str:
    if returncode < 0:
        return f"signal {signal.Signals(-returncode).name}"
    return f"status {returncode}"
