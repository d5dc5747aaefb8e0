"""The agent's parts that need no other process."""

import base64
import json
from pathlib import Path

import pytest

from devices.agent import nats_persistent_agent as agent


def made_jwt(claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1",
        "  select * from users ; ",
        "SELECT 'a;b' AS \"c;d\", [e;f], `g;h`",
        "SELECT 'it''s; fine'",
        "SELECT 1 -- one; two",
        "SELECT /* one; two */ 1",
    ],
)
def test_one_select_is_allowed(query: str) -> None:
    assert agent.single_select(query).lower().startswith("select")


@pytest.mark.parametrize(
    "query",
    [
        "",
        ";",
        ".tables",
        "SELECTED",
        "DELETE FROM users",
        "WITH x AS (SELECT 1) DELETE FROM x",
        "-- a comment\nDELETE FROM users",
        "SELECT 1; DELETE FROM users",
        "SELECT 'a'; SELECT 'b'",
        "SELECT 'open ; SELECT 1",
        "SELECT 1 -- one\n; SELECT 2",
        "SELECT 1 /* open ; SELECT 2",
        "SELECT '\0'",
    ],
)
def test_all_but_one_select_is_refused(query: str) -> None:
    with pytest.raises(agent.CommandError):
        agent.single_select(query)


@pytest.mark.parametrize(
    ("claims", "lifetime"), [({"iat": 100, "exp": 700}, 600.0), ({"iat": 100}, None)]
)
def test_a_jwt_says_how_long_it_lives(claims: dict[str, int], lifetime: float | None) -> None:
    assert agent.jwt_lifetime(made_jwt(claims)) == lifetime


@pytest.mark.parametrize("jwt", ["", "a.b", "a.!!!.c", made_jwt([]), made_jwt({"exp": 5})])
def test_what_is_no_jwt_is_not_taken_for_one(jwt: str) -> None:
    with pytest.raises(agent.ServerUnavailableError):
        agent.jwt_lifetime(jwt)


def test_only_ingest_may_confirm_a_message() -> None:
    agent.check_ack(b'{"stream": "INGEST", "seq": 1}')
    for other in (b'{"stream": "TENANT"}', b'{"error": {"code": 503}}', b"[]", b"", b"null"):
        with pytest.raises(agent.NotStoredError):
            agent.check_ack(other)


def test_pauses_grow_to_a_limit_and_are_not_all_the_same() -> None:
    backoff = agent.Backoff(1, 30)
    pauses = [backoff.next() for _ in range(2000)]

    assert 0.5 <= pauses[0] <= 1.5
    assert all(15 <= pause <= 45 for pause in pauses[5:])
    assert max(pauses) - min(pauses[5:]) > 20

    backoff.reset()
    assert backoff.next() <= 1.5


def test_what_is_sent_is_json_that_every_reader_takes() -> None:
    message = {"a": float("nan"), "b": "x\0y\ud800", "c": (1, {"d": float("inf")})}

    assert json.loads(agent.to_json(message)) == {"a": None, "b": "xy?", "c": [1, {"d": None}]}


async def loaded(path: Path) -> agent.Journal:
    journal = agent.Journal(path)
    await journal.load()
    return journal


async def test_the_journal_knows_after_a_restart_how_far_each_command_came(
    tmp_path: Path,
) -> None:
    journal = await loaded(tmp_path / "journal")
    for command_id in "abcd":
        await journal.receive(command_id, {"command": "ping", "parameters": {"of": command_id}})
    for command_id in "dcb":
        await journal.start(command_id)
    for command_id in "dc":
        await journal.finish(command_id, b'{"of":"%s"}' % command_id.encode())
    await journal.acknowledge("d")

    # Twice, since loading also writes it anew.
    await loaded(tmp_path / "journal")
    again = await loaded(tmp_path / "journal")

    assert again.received == [("a", {"command": "ping", "parameters": {"of": "a"}})]
    assert again.started == ["b"]
    assert again.finished == [("c", b'{"of":"c"}')]
    assert again.state("d") == "acknowledged"
    assert again.state("e") is None


async def test_a_line_torn_by_a_power_cut_costs_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = await loaded(path)
    await journal.receive("a", {"command": "ping"})
    with path.open("ab") as stream:
        stream.write(b'{"id":"b","sta')

    journal = await loaded(path)
    await journal.start("a")

    again = await loaded(path)
    assert again.started == ["a"]
    assert again.state("b") is None


async def test_answers_keep_their_order_through_a_restart(tmp_path: Path) -> None:
    journal = await loaded(tmp_path / "journal")
    for command_id in "abc":
        await journal.receive(command_id, {})
    for command_id in "cab":
        await journal.finish(command_id, b"{}")

    await loaded(tmp_path / "journal")
    again = await loaded(tmp_path / "journal")

    assert [command_id for command_id, _ in again.finished] == ["c", "a", "b"]


async def test_the_journal_forgets_only_the_oldest_of_the_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent.Journal, "REMEMBERED", 3)
    journal = await loaded(tmp_path / "journal")
    await journal.receive("open", {})
    for command_id in "abcd":
        await journal.receive(command_id, {})
        await journal.finish(command_id, b"{}")
        await journal.acknowledge(command_id)

    assert journal.state("open") == "received"
    assert [journal.state(command_id) for command_id in "ab"] == [None, None]
    assert [journal.state(command_id) for command_id in "cd"] == ["acknowledged"] * 2


async def test_the_journal_does_not_grow_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent.Journal, "COMPACT_BYTES", 10_000)
    monkeypatch.setattr(agent.Journal, "REMEMBERED", 10)
    path = tmp_path / "journal"
    journal = await loaded(path)
    for number in range(100):
        await journal.receive(str(number), {"command": "x" * 500})
        await journal.finish(str(number), b'{"result":"%s"}' % (b"y" * 500))
        await journal.acknowledge(str(number))

    assert path.stat().st_size < 20_000
    assert (await loaded(path)).state("99") == "acknowledged"


async def test_a_full_journal_says_so_by_number_and_by_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent.Journal, "MAX_OPEN", 2)
    monkeypatch.setattr(agent.Journal, "MAX_OPEN_BYTES", 100)
    journal = await loaded(tmp_path / "journal")
    await journal.receive("a", {})
    assert not journal.full
    await journal.receive("b", {})
    assert journal.full
    for command_id in "ab":
        await journal.finish(command_id, b"{}")
        await journal.acknowledge(command_id)
    assert not journal.full
    await journal.receive("c", {})
    await journal.finish("c", b'"%s"' % (b"x" * 100))
    assert journal.full


async def test_a_command_that_cannot_be_journalled_is_not_taken(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    journal = await loaded(folder / "journal")
    (folder / "journal").unlink()
    folder.rmdir()

    with pytest.raises(OSError, match="No such file"):
        await journal.receive("a", {})

    assert journal.state("a") is None
    assert journal.received == []
