"""Whatever stands in the agent's files, it starts, and what it remembers is what it was told."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from devices.agent import nats_persistent_agent as agent
from tests.devices.agent.support import AgentProcess, Platform, connected, eventually
from tests.devices.agent.test_parts import Platform as Stored
from tests.devices.agent.test_parts import made_jwt

STATES = agent.Journal.STATES
IDS = st.sampled_from("abcdefgh")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=15,
)
DEEP = st.integers(50, 3_000).map(lambda depth: b"[" * depth + b"]" * depth)
LINES = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {"id": IDS | SCALARS, "state": st.sampled_from(STATES) | JSON},
        optional={"command": JSON, "answer": JSON},
    ).map(lambda value: json.dumps(value).encode()),
    DEEP.map(lambda deep: b'{"id":"a","state":"received","command":{"parameters":%s}}' % deep),
    DEEP.map(lambda deep: b'{"id":"b","state":"finished","answer":{"result":%s}}' % deep),
)
SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    (path / "inner").mkdir(parents=True)


def sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(3 * agent.MAX_JOURNAL_BYTES)


INSTEAD_OF_FILES = [fifo, folder, sparse]


@pytest.fixture
def home(tmp_path: Path) -> agent.ConfigurationFolder:
    created = agent.ConfigurationFolder(tmp_path / "configuration")
    created.create()
    return created


def kept_aside(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.damaged-*"))


async def loaded(path: Path) -> agent.Journal:
    journal = agent.Journal(path)
    await journal.load()
    return journal


@SETTINGS
@given(st.lists(LINES, max_size=12))
def test_no_journal_keeps_the_agent_from_starting_or_from_going_on(lines: list[bytes]) -> None:
    async def use(path: Path) -> None:
        journal = await loaded(path)
        assert journal.problem == ""
        for command_id, command in journal.received:
            assert journal.state(command_id) == "received"
            agent.to_json(command)
        for _, answer in journal.finished:
            assert isinstance(json.loads(answer), dict)
        await journal.receive("new", {"command": "ping"})
        await journal.start("new")
        again = await loaded(path)
        assert again.started == [*journal.started]
        assert (again.received, again.finished) == (journal.received, journal.finished)

    with TemporaryDirectory() as directory:
        path = Path(directory) / "journal"
        path.write_bytes(b"\n".join(lines) + b"\n")
        asyncio.run(use(path))


class JournalUnderDamage(RuleBasedStateMachine):
    """The journal beside a dictionary, through restarts and all that may happen to the file."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        self.path = Path(self.directory.name) / "journal"
        self.loop = asyncio.new_event_loop()
        # What each command has been through, newest last.
        self.model: dict[str, list[str]] = {}
        self.journal = self.load()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def load(self) -> agent.Journal:
        journal: agent.Journal = self.run(loaded(self.path))
        return journal

    def teardown(self) -> None:
        self.loop.close()
        self.directory.cleanup()

    @rule(command_id=IDS, state=st.sampled_from(STATES))
    def next_state(self, command_id: str, state: str) -> None:
        work = {
            "received": lambda: self.journal.receive(command_id, {"command": command_id}),
            "started": lambda: self.journal.start(command_id),
            "finished": lambda: self.journal.finish(command_id, b'{"a":1}'),
            "acknowledged": lambda: self.journal.acknowledge(command_id),
        }
        self.run(work[state]())
        self.model.setdefault(command_id, []).append(state)

    @rule()
    def restart(self) -> None:
        self.journal = self.load()

    @rule(line=st.binary(max_size=40).filter(lambda line: b"{" not in line) | DEEP)
    def garbage_and_restart(self, line: bytes) -> None:
        with self.path.open("ab") as stream:
            stream.write(line + b"\n")
        self.restart()

    @rule(cut=st.integers(1, 80))
    def power_cut(self, cut: int) -> None:
        """The newest lines are lost; of each command an earlier state is left, or none."""
        with self.path.open("r+b") as stream:
            stream.truncate(max(self.path.stat().st_size - cut, 0))
        self.restart()
        for command_id, states in list(self.model.items()):
            state = self.journal.state(command_id)
            assert state is None or state in states
            self.model[command_id] = [*states, state] if state else []
        self.model = {key: states for key, states in self.model.items() if states}

    @rule(put=st.sampled_from(INSTEAD_OF_FILES))
    def something_else_in_its_place(self, put: Any) -> None:
        self.path.unlink()
        put(self.path)
        self.restart()
        self.model.clear()

    @rule(put=st.sampled_from([fifo, folder]), command_id=IDS)
    def something_else_while_it_runs(self, put: Any, command_id: str) -> None:
        """One line cannot be written; the next one brings all back."""
        self.path.unlink()
        put(self.path)
        with contextlib.suppress(OSError):
            self.run(self.journal.finish(command_id, b'{"a":1}'))
        self.run(self.journal.finish(command_id, b'{"a":1}'))
        self.model.setdefault(command_id, []).append("finished")

    @invariant()
    def it_remembers_what_it_was_told(self) -> None:
        assert {key: self.journal.state(key) for key in self.model} == {
            key: states[-1] for key, states in self.model.items()
        }
        for state, held in (
            ("received", [key for key, _ in self.journal.received]),
            ("started", self.journal.started),
            ("finished", [key for key, _ in self.journal.finished]),
        ):
            expected = {key for key, states in self.model.items() if states[-1] == state}
            assert set(held) == expected
        assert self.journal.problem == ""


JournalUnderDamage.TestCase.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None
)
test_journal_under_damage = JournalUnderDamage.TestCase


@pytest.mark.parametrize("put", INSTEAD_OF_FILES)
async def test_a_file_that_is_not_a_journal_is_kept_aside_and_a_fresh_one_begun(
    tmp_path: Path, put: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal"
    put(path)
    journal = await loaded(path)
    await journal.receive("a", {"command": "ping"})
    assert len(kept_aside(path)) == 1
    assert "the agent starts afresh" in caplog.text
    assert (await loaded(path)).state("a") == "received"


@pytest.mark.parametrize("reason", [PermissionError(errno.EACCES, "Permission denied")])
def test_what_may_not_be_read_is_kept_aside(
    monkeypatch: pytest.MonkeyPatch, home: agent.ConfigurationFolder, reason: OSError
) -> None:
    def refuse(*_: object) -> None:
        raise reason

    file = home.path / "agent.json"
    for each in (file, home.journal):
        each.write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr(agent.os, "open", refuse)
        assert home.load() is None
        agent.Journal(home.journal)._load()
    assert kept_aside(file)
    assert kept_aside(home.journal)


async def test_far_too_many_ids_cost_neither_memory_nor_a_run(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with path.open("wb") as stream:
        for state in ("started", "received", "acknowledged"):
            body = b',"command":{"command":"ping"}' if state == "received" else b""
            line = b'{"id":"%s-%%d","state":"%s"%s}\n' % (state.encode(), state.encode(), body)
            stream.write(b"".join(line % each for each in range(50_000)))
    journal = await loaded(path)
    under_way = len(journal.received) + len(journal.started)
    assert under_way <= 2 * journal.MAX_OPEN
    assert journal.state("acknowledged-49999") == "acknowledged"
    assert path.stat().st_size < 2_000_000


async def test_a_line_without_end_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    huge = b'{"id":"x","state":"received","command":{"a":"%s"}}' % (b"x" * agent.MAX_LINE_BYTES)
    path.write_bytes(huge + b'\n{"id":"a","state":"started"}\n' + b"[" * agent.MAX_LINE_BYTES * 2)
    journal = await loaded(path)
    assert (journal.started, journal.received) == (["a"], [])


def good_configuration(**changes: object) -> dict[str, object]:
    return {
        "server_url": "https://wegweiser.example",
        "group_uuid": "0f8fad5b-d9cb-469f-a165-70867728950e",
        "device_name": "anna",
        "nkey_seed": agent.Key.new_seed(),
        "device_uuid": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
        "tenant_uuid": "0f8fad5b-d9cb-469f-a165-70867728950e",
        "device_token": "wgd_x",
        "nats_url": "tls://nats.example",
        "jwt": made_jwt({"iat": 1, "exp": 100}),
        **changes,
    }


FIELDS = [field.name for field in agent.dataclasses.fields(agent.Configuration)]
CONFIGURATIONS = st.one_of(
    st.binary(max_size=100),
    DEEP,
    JSON.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from([*FIELDS, "unknown"]), JSON | st.just(10**400), max_size=4).map(
        lambda changes: json.dumps(good_configuration(**changes)).encode()
    ),
    st.integers(0, 300).map(lambda size: json.dumps(good_configuration()).encode()[:size]),
)


@SETTINGS
@given(CONFIGURATIONS)
def test_a_configuration_is_used_or_kept_aside(content: bytes) -> None:
    with TemporaryDirectory() as directory:
        home = agent.ConfigurationFolder(Path(directory))
        file = Path(directory) / "agent.json"
        file.write_bytes(content)
        found = home.load()
        if found is None:
            [kept] = kept_aside(file)
            assert kept.read_bytes() == content
            assert home.load() is None
            return
        home.save(found)
        assert home.load() == found
        agent.later_timestamp(found.proved_at)

        async def begin() -> None:
            keeper = agent.CredentialKeeper(home, found, agent.Threads(1, "test"), lambda: None)
            assert isinstance(keeper.expired, bool)
            agent.Link(found, lambda: None)

        asyncio.run(begin())


@pytest.mark.parametrize("put", INSTEAD_OF_FILES)
def test_a_file_that_is_not_a_configuration_is_kept_aside(
    home: agent.ConfigurationFolder, put: Any
) -> None:
    file = home.path / "agent.json"
    put(file)
    assert home.load() is None
    assert len(kept_aside(file)) == 1
    configuration = agent.Configuration(**good_configuration())  # type: ignore[arg-type]
    (home.path / "agent.json.new").mkdir()
    home.save(configuration)
    assert home.load() == configuration


def test_a_jwt_that_cannot_be_used_costs_no_device(home: agent.ConfigurationFolder) -> None:
    deep = made_jwt(json.loads("[" * 900 + "]" * 900))
    for jwt in ("", "x", deep, made_jwt({"iat": 5, "exp": 1}), made_jwt({"iat": 0, "exp": 1e999})):
        (home.path / "agent.json").write_text(json.dumps(good_configuration(jwt=jwt)))
        found = home.load()
        assert found is not None
        assert found.enrolled
        keeper = agent.CredentialKeeper(home, found, agent.Threads(1, "test"), lambda: None)
        assert keeper.expired


@contextlib.contextmanager
def stuck(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> Iterator[threading.Event]:
    """This method does not return, as on a dead disk; the event says that it was called."""
    called, free = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        called.set()
        free.wait()

    monkeypatch.setattr(owner, name, wait)
    try:
        yield called
    finally:
        free.set()


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (agent.ConfigurationFolder, "load"),
        (agent.ConfigurationFolder, "save"),
        (agent.ServerApi, "register"),
        (agent.Journal, "_load"),
    ],
)
async def test_a_start_that_hangs_ends_on_sigterm(
    monkeypatch: pytest.MonkeyPatch, home: agent.ConfigurationFolder, owner: type, name: str
) -> None:
    if name == "_load":
        (home.path / "agent.json").write_text(json.dumps(good_configuration()))
    options = agent.parse_options(
        ["--server", "http://127.0.0.1:9", "--group", str(good_configuration()["group_uuid"])]
    )
    options.enrollment_key = "key"
    with stuck(monkeypatch, owner, name) as called:
        running = asyncio.ensure_future(agent.run(options, home))
        await eventually(called.is_set)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await asyncio.wait_for(running, 20) is agent.Outcome.STOPPED


MESSAGES = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {"command_id": IDS | SCALARS, "command": st.sampled_from(["ping", "osquery"]) | JSON},
        optional={"parameters": JSON, "payload": JSON},
    ).map(lambda value: json.dumps(value).encode()),
    DEEP.map(lambda deep: b'{"command_id":"h","command":"ping","parameters":{"a":%s}}' % deep),
    DEEP.map(lambda deep: b'{"payload":{"command_id":"g","command":%s}}' % deep),
)


@SETTINGS
@given(st.lists(MESSAGES, max_size=8))
def test_no_message_ends_in_a_traceback_and_each_command_is_answered_once(
    messages: list[bytes],
) -> None:
    async def use(path: Path) -> None:
        journal, link = await loaded(path), Stored()
        outbox = agent.Outbox(link, journal)
        commands = agent.Commands(
            agent.Threads(1, "test"),
            *(None, "session", lambda: None, None),  # type: ignore[arg-type]
        )
        runner = agent.CommandRunner(commands, journal, outbox)
        for message in messages * 2:
            await runner.receive(message)
        taken = {command_id for command_id, _ in journal.received}
        tasks = [asyncio.ensure_future(each()) for each in (runner.run, outbox.run)]
        await eventually(lambda: all(journal.state(each) == "acknowledged" for each in taken))
        await agent.cancelled(tasks)
        answers = [each for each in link.stored if each["result"]["status"] != "received"]
        assert sorted(each["command_id"] for each in answers) == sorted(taken)

    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(agent, "find_osquery", lambda: None)
        patch.setattr(agent.log, "exception", fail)
        asyncio.run(use(Path(directory) / "journal"))


def fail(text: str, *arguments: object) -> None:
    raise AssertionError(text % arguments)


async def test_a_damaged_folder_costs_the_damage_and_the_agent_goes_on(
    agent: AgentProcess, platform: Platform
) -> None:
    first = await connected(agent, platform)
    agent.kill()
    for name in ("agent.json", "commands.journal", "agent.json.new", "commands.journal.new"):
        file = agent.folder / name
        file.unlink(missing_ok=True)
        os.mkfifo(file)
    agent.start()
    await eventually(lambda: agent.configuration.get("device_uuid"))
    second = agent.device
    assert second != first
    await platform.next_heartbeat(second)
    assert (await platform.run(second, "ping"))["status"] == "success"
    agent.signal(signal.SIGTERM)
    assert agent.wait() == (0, "")
    assert "the agent starts afresh" in agent.log_text
    assert "Traceback" not in agent.log_text


@pytest.mark.parametrize(
    ("inner", "problem"),
    [
        ("[" * 600 + "]" * 600, "nested deeper than 100 levels"),
        ("[" * 20_000 + "]" * 20_000, "nested deeper than 100 levels"),
        ("[" * 20_000, "nested deeper than 100 levels"),
        ("[" * 600, "not JSON that can be read"),
        ("9" * 5_000, "not JSON that can be read"),
    ],
)
async def test_a_poisonous_command_is_answered_once_with_an_error(
    module_agent: AgentProcess, platform: Platform, inner: str, problem: str
) -> None:
    device = module_agent.device
    command_id = os.urandom(8).hex()
    text = '{"command_id": "%s", "command": "ping", "parameters": {"a": %s}}'
    body = (text % (command_id, inner)).encode()
    await platform.send_raw(device, body)
    outcome = await platform.result(device, command_id)
    assert (outcome["status"], problem in outcome["error"]) == ("error", True)
    await platform.send_raw(device, body)
    assert (await platform.run(device, "ping"))["status"] == "success"
    results = await platform.results(device, command_id)
    assert [each["status"] for each in results if each["status"] != "received"] == ["error"]
    assert "Traceback" not in module_agent.log_text
