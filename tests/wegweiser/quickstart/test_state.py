import json
import socket
import stat
from pathlib import Path

import pytest

from tests.plugin import allot_port
from tests.wegweiser.quickstart.running import Quickstart
from wegweiser.quickstart.errors import SetupFailed
from wegweiser.quickstart.ports import LOOPBACK
from wegweiser.quickstart.state import (
    Accounts,
    Ports,
    Secrets,
    refuse_older_home,
    write_private,
)

ACCOUNTS = Accounts("admin", "password", "token", "tenant", "group", "key")


def test_secrets_are_made_once_and_only_we_can_read_them(tmp_path: Path) -> None:
    first = Secrets.of_home(tmp_path)
    assert Secrets.of_home(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600


def test_a_home_from_before_the_first_release_is_refused_in_one_line_and_left_as_it_is(
    tmp_path: Path,
) -> None:
    earlier = vars(Secrets.of_home(tmp_path)) | {}
    del earlier["release"]
    path = tmp_path / "secrets.json"
    write_private(path, earlier)
    before = path.read_bytes()
    run = Quickstart(tmp_path)
    (line,) = run.output().splitlines()
    assert run.process.returncode != 0
    assert f"{tmp_path} is from before Wegweiser 0.1.0" in line
    assert "remove the folder to start afresh" in line
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_home_of_this_release_is_used_again(tmp_path: Path) -> None:
    refuse_older_home(tmp_path)
    Secrets.of_home(tmp_path)
    refuse_older_home(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"secret_key": 1}'])
def test_damaged_secrets_are_never_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(content)
    with pytest.raises(SetupFailed, match="damaged"):
        Secrets.of_home(tmp_path)
    assert path.read_text() == content


def test_a_private_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_private(path, {"a": 1})
    with pytest.raises(TypeError):
        write_private(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_ports_of_the_last_run_are_used_again(tmp_path: Path) -> None:
    wished = allot_port()
    first, _ = Ports.choose(tmp_path, web=wished)
    assert first.web == wished
    assert Ports.choose(tmp_path, web=None)[0] == first


def test_a_taken_port_gives_way_to_the_next_and_is_named(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        taken = listener.getsockname()[1]
        ports, notes = Ports.choose(tmp_path, web=taken)
    assert ports.web > taken
    assert f"Port {taken} is taken: web uses {ports.web}." in notes


def test_no_two_servers_get_the_same_port(tmp_path: Path) -> None:
    port = allot_port()
    write_private(tmp_path / "ports.json", dict.fromkeys(("web", "postgres", "redis"), port))
    ports, _ = Ports.choose(tmp_path, web=None)
    assert len(set(vars(ports).values())) == 5


def test_nothing_is_said_of_the_port_of_a_server_that_we_do_not_start(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        taken = listener.getsockname()[1]
        write_private(tmp_path / "ports.json", {"postgres": taken})
        _, notes = Ports.choose(tmp_path, web=allot_port(), unused={"postgres"})
    assert not any("postgres" in note for note in notes)


def test_accounts_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert Accounts.of_home(tmp_path) is None
    ACCOUNTS.save(tmp_path)
    assert Accounts.of_home(tmp_path) == ACCOUNTS


def test_accounts_with_a_field_missing_count_as_none(tmp_path: Path) -> None:
    write_private(Accounts.path(tmp_path), {"admin_username": "admin"})
    assert Accounts.of_home(tmp_path) is None
