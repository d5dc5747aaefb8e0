"""Who can write the agent's configuration commands the computer; so nobody else may."""

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest

from devices.agent import nats_persistent_agent as agent
from tests.devices.agent.conftest import StartAgent
from tests.devices.agent.test_damage import good_configuration, kept_aside


@pytest.fixture
def home(tmp_path: Path) -> agent.ConfigurationFolder:
    created = agent.ConfigurationFolder(tmp_path / "configuration")
    created.create()
    return created


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    file = tmp_path / "victim"
    file.write_text("precious")
    return file


def test_a_lock_that_leads_elsewhere_is_refused_and_nothing_is_emptied(
    new_agent: StartAgent, victim: Path
) -> None:
    process = new_agent()
    process.folder.mkdir(0o700)
    (process.folder / "agent.lock").symlink_to(victim)
    process.start()
    status, _ = process.wait()
    assert status == 1
    assert "agent.lock is a symbolic link, which the agent does not follow" in process.log_text
    assert "Traceback" not in process.log_text
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", ["agent.json", "commands.journal", "agent.lock"])
@pytest.mark.parametrize("dangling", [False, True])
def test_no_file_is_read_or_written_through_a_link(
    home: agent.ConfigurationFolder, victim: Path, name: str, dangling: bool
) -> None:
    if dangling:
        victim.unlink()
    (home.path / name).symlink_to(victim)
    with pytest.raises(agent.ConfigurationError, match="symbolic link"):
        use(home, name)
    assert victim.exists() is not dangling
    assert (home.path / name).is_symlink()


@pytest.mark.parametrize("name", ["agent.json", "commands.journal", "agent.lock"])
def test_no_file_of_another_user_is_believed(
    monkeypatch: pytest.MonkeyPatch, home: agent.ConfigurationFolder, name: str
) -> None:
    file = home.path / name
    file.write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(agent.os, "geteuid", lambda: 12_345)
        with pytest.raises(agent.ConfigurationError, match="belongs to the user"):
            use(home, name)
    assert not kept_aside(file), "it is refused, not replaced"


@pytest.mark.parametrize("name", ["agent.json", "commands.journal"])
@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_no_file_that_others_could_write_is_believed(
    home: agent.ConfigurationFolder, name: str, mode: int
) -> None:
    file = home.path / name
    file.write_text("")
    file.chmod(mode)
    with pytest.raises(agent.ConfigurationError, match="chmod go-w"):
        use(home, name)
    assert not kept_aside(file), "it is refused, not replaced"


def test_a_lock_of_our_own_is_protected_and_used(home: agent.ConfigurationFolder) -> None:
    file = home.path / "agent.lock"
    file.touch()
    file.chmod(0o664)
    home.lock()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    home.release()


def use(home: agent.ConfigurationFolder, name: str) -> None:
    match name:
        case "agent.json":
            home.load()
        case "agent.lock":
            home.lock()
        case "commands.journal":
            asyncio.run(agent.Journal(home.journal).load())


def read(file: Path) -> str:
    return file.read_text()


async def test_a_link_put_in_the_journals_place_while_it_runs_is_replaced_not_followed(
    home: agent.ConfigurationFolder, victim: Path
) -> None:
    journal = agent.Journal(home.journal)
    await journal.load()
    home.journal.unlink()
    home.journal.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        await journal.receive("a", {"command": "ping"})
    await journal.receive("b", {"command": "ping"})
    assert read(victim) == "precious"
    assert not home.journal.is_symlink()


def test_temporary_files_do_not_follow_links_either(
    home: agent.ConfigurationFolder, victim: Path
) -> None:
    (home.path / "agent.json.new").symlink_to(victim)
    home.save(agent.Configuration(**good_configuration()))  # type: ignore[arg-type]
    assert victim.read_text() == "precious"
    assert stat.S_IMODE((home.path / "agent.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702, 0o720])
def test_a_folder_that_others_can_write_is_refused(
    home: agent.ConfigurationFolder, mode: int
) -> None:
    home.path.chmod(mode)
    with pytest.raises(agent.ConfigurationError, match=f"chmod go-w {home.path}"):
        home.create()
    home.path.chmod(0o755)
    home.create()


def test_a_folder_of_another_user_is_refused(
    monkeypatch: pytest.MonkeyPatch, home: agent.ConfigurationFolder
) -> None:
    monkeypatch.setattr(agent.os, "geteuid", lambda: 12_345)
    with pytest.raises(agent.ConfigurationError, match="this agent runs as 12345"):
        home.create()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"12\x1b[2J"])
def test_the_lock_may_hold_anything(home: agent.ConfigurationFolder, content: bytes) -> None:
    (home.path / "agent.lock").write_bytes(content)
    home.lock()
    assert (home.path / "agent.lock").read_text() == f"{agent.os.getpid()}\n"
    second = agent.ConfigurationFolder(home.path)
    with pytest.raises(agent.ConfigurationError, match=f"process {agent.os.getpid()}"):
        second.lock()
    home.release()


def test_what_a_terminal_would_obey_is_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    record: Any = agent.logging.LogRecord("a", 30, "", 0, "no: %s", ("\x1b[2J\nroot\u202e",), None)
    assert agent.Formatter("%(message)s").format(record) == r"no: \x1b[2J\x0aroot\x202e"
