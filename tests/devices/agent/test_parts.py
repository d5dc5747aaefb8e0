"""The agent's parts that need no other process."""

import asyncio
import base64
import json
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from devices.agent import nats_persistent_agent as agent
from tests.devices.agent.support import eventually
from tests.support.waiting import SAFETY_NET


@contextmanager
def no_file_grows_beyond(size: int) -> Iterator[None]:
    """As on a full disk: what fits is written, and then there is an error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


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
def test_text_that_is_not_a_jwt_is_not_taken_for_one(jwt: str) -> None:
    with pytest.raises(agent.ServerUnavailableError):
        agent.jwt_lifetime(jwt)


def test_what_the_platform_will_never_take_is_known_by_its_number() -> None:
    with pytest.raises(agent.MessageTooLargeError):
        agent.check_ack(b'{"error": {"code": 400, "err_code": 10054}, "stream": "INGEST"}')


def test_only_the_platforms_streams_may_confirm_a_message() -> None:
    agent.check_ack(b'{"stream": "INGEST", "seq": 1}')
    agent.check_ack(b'{"stream": "LATEST", "seq": 1}')
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


async def test_the_journal_knows_which_request_issued_each_command_until_it_is_answered(
    tmp_path: Path,
) -> None:
    journal = await loaded(tmp_path / "journal")
    for command_id in "abcd":
        await journal.receive(command_id, {"command": "ping"}, f"request-of-{command_id}")
    await journal.receive("e", {"command": "ping"}, "no id\r\n")
    for command_id in "bcd":
        await journal.start(command_id)
    for command_id in "cd":
        await journal.finish(command_id, b"{}")
    await journal.acknowledge("d")

    await loaded(tmp_path / "journal")
    again = await loaded(tmp_path / "journal")

    expected = ["request-of-a", "request-of-b", "request-of-c", "", ""]
    assert [again.correlation_id(command_id) for command_id in "abcde"] == expected


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


@pytest.mark.parametrize(
    ("urls", "taken"),
    [
        (["tls://a", "wss://b"], "tls://a,wss://b"),
        ("tls://b", "tls://a"),
        ([], "tls://a"),
        (["tls://b", 7], "tls://a"),
        (None, "tls://a"),
    ],
)
def test_the_agent_takes_all_addresses_of_the_broker_where_it_is_told_them(
    urls: object, taken: str
) -> None:
    configuration = agent.Configuration("", "", "", "")
    configuration.take_credentials({"jwt": "a.e30.c", "nats_url": "tls://a", "nats_urls": urls})
    assert configuration.nats_url == taken


def test_no_two_registrations_are_signed_with_one_timestamp(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agent.time, "time", lambda: 1000.9)
    assert agent.later_timestamp(0) == 1000
    assert agent.later_timestamp(1000) == 1001
    assert agent.later_timestamp(1200) == 1201, "the clock was set back a little"
    assert agent.later_timestamp(2000) == 1000, "no server took that one"


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


async def test_on_a_full_disk_nothing_is_taken_or_half_written_and_all_is_made_up_for_later(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal"
    journal = await loaded(path)
    for command_id in "ab":
        await journal.receive(command_id, {"command": "ping"})
    await journal.start("a")
    before = path.read_bytes()
    with no_file_grows_beyond(len(before) + 10), pytest.raises(OSError, match="large"):
        await journal.receive("c", {"command": "ping"})
    assert path.read_bytes() == before
    with no_file_grows_beyond(10):
        for attempt in (journal.finish("a", b"{}"), journal.start("b")):
            with pytest.raises(OSError, match="large"):
                await attempt
    assert not path.with_name("journal.new").exists()
    assert "large" in journal.problem
    # What is on the disk is still how far it had come there.
    assert path.read_bytes() == before

    await journal.finish("b", b'{"error":"not run"}')

    assert journal.problem == ""
    again = await loaded(path)
    assert again.finished == [("a", b"{}"), ("b", b'{"error":"not run"}')]
    assert (again.started, again.received, again.state("c")) == ([], [], None)


async def test_an_agent_starts_on_a_full_disk_with_what_its_journal_says(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    await (await loaded(path)).receive("a", {"command": "ping"})
    before = path.read_bytes()
    folder = agent.ConfigurationFolder(tmp_path)
    with no_file_grows_beyond(1):
        folder.lock()
        journal = await loaded(path)
        assert journal.received == [("a", {"command": "ping"})]
        with pytest.raises(OSError, match="large"):
            await journal.start("a")
    folder.release()
    assert path.read_bytes() == before


async def test_a_damaged_journal_costs_the_damaged_lines_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    await (await loaded(path)).receive("a", {"command": "ping"})
    damaged = [
        b"\0" * 4096,
        bytes(range(256)),
        b'{"id":"b","state":"received"}',
        b'{"id":"b","state":"received","command":7}',
        b'{"id":"b","state":"bogus"}',
        b'["b","started"]',
        b"[" * 100_000,
        b'{"id":"b","state":"finished","answer":',
    ]
    with path.open("ab") as stream:
        stream.write(b"\n".join(damaged) + b"\n" + b'{"id":"a","state":"started"}\n')

    journal = await loaded(path)

    assert (journal.started, journal.state("b")) == (["a"], None)
    assert path.stat().st_size < 100


async def test_the_commands_that_wait_count_by_size_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent.Journal, "MAX_OPEN_BYTES", 100)
    journal = await loaded(tmp_path / "journal")
    await journal.receive("a", {"command": "x" * 100})
    assert journal.full
    assert (await loaded(tmp_path / "journal")).full
    await journal.start("a")
    assert not journal.full


class Platform(agent.Link):
    """Answers each message as told, and then has stored it; `tried` is when there was one."""

    def __init__(self, *answers: agent.NotStoredError) -> None:
        self.answers = list(answers)
        self.stored: list[dict[str, Any]] = []
        self.correlation_ids: list[str] = []
        self.tried: list[float] = []
        self.opened = asyncio.Event()
        self.opened.set()

    async def publish_stored(self, kind: str, payload: bytes, correlation_id: str = "") -> None:
        self.tried.append(asyncio.get_running_loop().time())
        if self.answers:
            raise self.answers.pop(0)
        self.stored.append(json.loads(payload))
        self.correlation_ids.append(correlation_id)


async def test_a_command_cut_short_is_answered_once_however_often_the_agent_dies(
    tmp_path: Path,
) -> None:
    journal = await loaded(tmp_path / "journal")
    await journal.receive("a", {"command": "ping"}, "from-the-caller")
    await journal.start("a")
    for _ in range(3):
        journal, link = await loaded(tmp_path / "journal"), Platform()
        outbox = agent.Outbox(link, journal)
        outbox.load()
        await agent.CommandRunner(cast(agent.Commands, None), journal, outbox).load()
        assert [command_id for command_id, _ in journal.finished] == ["a"]

    await sent(outbox)

    assert [each["result"]["error"].partition(":")[0] for each in link.stored] == ["interrupted"]
    assert link.correlation_ids == ["from-the-caller"]
    assert (await loaded(tmp_path / "journal")).finished == []


async def sent(outbox: agent.Outbox) -> None:
    sending = asyncio.ensure_future(outbox.run())
    try:
        assert await outbox.empty(SAFETY_NET)
    finally:
        sending.cancel()


async def test_what_the_platform_refuses_is_tried_again_after_growing_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    class Growing(agent.Backoff):
        def next(self) -> float:
            pauses.append(super().next())
            return 0.01

    monkeypatch.setattr(agent, "Backoff", Growing)
    monkeypatch.setattr(agent.random, "uniform", lambda *_: 1.0)
    link = Platform(*(agent.NotStoredError("maximum bytes exceeded") for _ in range(4)))
    outbox = agent.Outbox(link, await loaded(tmp_path / "journal"))
    await outbox.send_answer("a", {"status": "success"})
    await outbox.send_answer("b", {"status": "success"})

    await sent(outbox)

    assert [each["command_id"] for each in link.stored] == ["a", "b"]
    assert pauses == [pauses[0] * factor for factor in (1, 2, 4, 8)]


GROWING = agent.Backoff


async def test_an_answer_too_large_for_the_platform_is_replaced_once_and_a_receipt_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "Backoff", lambda first, longest: GROWING(first / 50, longest))
    too_large = agent.MessageTooLargeError
    # The receipt twice, the answer, and then even the short one.
    link = Platform(too_large("1"), too_large("2"))
    outbox = agent.Outbox(link, await loaded(tmp_path / "journal"))
    outbox.send_receipt("a")
    await sent(outbox)
    link.answers = [too_large("3"), too_large("4")]
    await outbox.send_answer("a", {"status": "success", "result": "x" * 5_000})
    await sent(outbox)

    assert [each["result"]["status"] for each in link.stored] == ["received", "error"]
    assert "too large to send (50" in link.stored[1]["result"]["error"]
    assert len(link.tried) == 6


async def test_a_command_that_cannot_be_journalled_gets_no_receipt_and_is_not_run(
    tmp_path: Path,
) -> None:
    journal, link = await loaded(tmp_path / "journal"), Platform()
    outbox = agent.Outbox(link, journal)
    runner = agent.CommandRunner(cast(agent.Commands, None), journal, outbox)
    command = b'{"command_id":"a","command":"ping"}'
    with no_file_grows_beyond(10):
        await runner.receive(command)
    await sent(outbox)
    assert (link.stored, journal.state("a")) == ([], None)

    # The server sends again what it has no receipt for.
    await runner.receive(command)
    running = asyncio.ensure_future(runner.run())
    with no_file_grows_beyond(10):
        assert await eventually(lambda: journal.state("a") == "finished")
    running.cancel()
    await sent(outbox)

    receipt, answer = (each["result"] for each in link.stored)
    assert receipt == {"status": "received"}
    assert answer["error"].startswith("not run: the journal cannot be written: ")


async def test_a_command_whose_connection_is_given_up_while_the_disk_is_slow_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, link = await loaded(tmp_path / "journal"), Platform()
    runner = agent.CommandRunner(cast(agent.Commands, None), journal, agent.Outbox(link, journal))
    free, write = threading.Event(), journal._write
    monkeypatch.setattr(journal, "_write", lambda *line: (free.wait(), write(*line)))
    received = asyncio.ensure_future(runner.receive(b'{"command_id":"a","command":"ping"}'))
    assert await eventually(lambda: journal.state("a") == "received")
    received.cancel()
    free.set()

    running = asyncio.ensure_future(runner.run())
    assert await eventually(lambda: journal.state("a") in ("finished", "acknowledged"))
    running.cancel()
