"""What osquery is given is one SELECT, whatever tricks the text plays."""

import asyncio
import contextlib
import sqlite3
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.agent import nats_persistent_agent as agent
from tests.devices.agent.support import AgentProcess, Platform

# What reading rows needs; SQLite reports each statement that does anything else.
READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
NASTY = [
    "select $a('); attach database '/tmp/x' as y; select '1'",
    'select $a("); attach database 1 as y; select "1"',
    "select $a::b(;); pragma user_version = 7",
    "select @a; attach database 1 as y",
    "select :a; delete from t",
    "select #a; delete from t",
    "select ?1; delete from t",
    "select 1; attach database '/tmp/x' as y",
    "select 1; pragma journal_mode = delete",
    "select 1 -- '\n; delete from t --'",
    "select 1 /* ' */; delete from t /* ' */",
    "select 1 /* /* */; delete from t",
    "select '; delete from t",
    'select "; delete from t',
    "select `; delete from t",
    "select [; delete from t",
    "select 'a''; delete from t --'; delete from t",
    'select "a"";"; delete from t',
    "select [a]]; delete from t",
    "select `a``; delete from t",
    "select '\\'; delete from t --'",
    "select x'; delete from t",
    "select 1\0; delete from t",
    "select\u00a01; delete from t",
    "select\u2028 1; delete from t",
    "with x as (select 1) delete from t",
    "with x as (select 1) insert into t select * from x",
    "with x as (insert into t values (1) returning 1) select * from x",
    "select 1 union delete from t",
    "select * from (delete from t returning 1)",
    "select * into u from t",
    "create table u as select 1",
    "explain select 1; delete from t",
    "vacuum into '/tmp/x'",
    "select load_extension('x')",
    "select \"Load_Extension\"('x')",
    "select writefile('/tmp/x', 'y')",
    "select readfile('/etc/passwd')",
    "select fts3_tokenizer('simple', x'00')",
    ".shell true",
    ".read /etc/passwd",
    "\n.shell true",
    "--config_path=/tmp/x",
    "\ud800 select 1",
    "select '\ud800'",
]
FRAGMENTS = [
    *("select ", "with ", "1", "t", "*", " from t", " as x", ",", "(", ")", "=", " union ", "\n"),
    *("'", '"', "`", "[", "]", "''", '""', ";", " ; ", "--", "/*", "*/", "\\", "\0", "\u00a0"),
    *("$a(", "$a", "::", ":c", "@b", "?1", "#d", "x'00'", "->", "->>", "||", "1e", ".", "\x1a"),
    *("attach database 'x' as y", "pragma user_version=7", "delete from t", "begin", "values (1)"),
]


def does(query: str) -> set[int]:
    """What SQLite would do for this text, were all its statements run."""
    actions: set[int] = set()

    def authorize(action: int, *_: object) -> int:
        actions.add(action)
        return sqlite3.SQLITE_OK if action in READING else sqlite3.SQLITE_DENY

    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.execute("create table t (a, b)")
        database.commit()
        database.set_authorizer(authorize)
        with contextlib.suppress(sqlite3.Error, sqlite3.Warning):
            database.executescript(query)
    # executescript itself commits first.
    return actions - {sqlite3.SQLITE_TRANSACTION}


@pytest.mark.parametrize("query", NASTY)
def test_a_query_that_would_do_more_than_read_is_refused_with_a_reason(query: str) -> None:
    with pytest.raises(agent.CommandError) as refused:
        agent.single_select(query)
    assert len(str(refused.value)) > 10


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join))
def test_of_what_is_accepted_sqlite_does_nothing_but_read(tail: str) -> None:
    for start in ("select ", "with x as (select 1) select "):
        try:
            query = agent.single_select(start + tail)
        except agent.CommandError:
            continue
        assert does(query) <= READING


@pytest.mark.parametrize(
    "query",
    [
        "with recent as (select pid from processes) select * from recent join users using (uid)",
        "select name from file where path like '/etc/%%' and name not in ('a;b', 'c--d')",
        "select json_extract(data, '$.a'), data ->> '$.b', x'00ff' from table_of_osquery;;",
        "select count(*) filter (where a) over (partition by b) from t order by 1 limit 3",
        "select regex_match(path, '[a-z]+', 0) as \"a b\" from process_open_files -- files; open",
    ],
)
def test_what_people_ask_is_allowed(query: str) -> None:
    assert agent.single_select(query) == query.rstrip(";")


def test_the_size_of_a_query_is_bounded() -> None:
    longest = f"select '{'x' * (agent.MAX_QUERY_BYTES - 9)}'"
    assert agent.single_select(longest) == longest
    with pytest.raises(agent.CommandError, match="larger than 30000 bytes"):
        agent.single_select(longest.replace("x", "ü"))


@pytest.mark.parametrize("bracket", ["[", "(", "'", "/*", "$a(", "x or "])
async def test_a_query_of_nothing_but_brackets_holds_up_nothing(
    module_agent: AgentProcess, platform: Platform, bracket: str
) -> None:
    device = module_agent.device
    for size in (29_000, 260_000):
        query = "select " + bracket * (size // len(bracket))
        asked = await platform.send(device, "osquery", {"query": query})
        assert (await platform.run(device, "ping"))["status"] == "success"
        assert (await platform.result(device, asked))["status"] in ("error", "success")


async def test_the_loop_goes_on_while_a_query_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite takes as long as it likes; meanwhile the agent does all else."""
    entered, left = asyncio.Event(), False
    loop = asyncio.get_running_loop()

    def slow(query: str) -> str:
        nonlocal left
        loop.call_soon_threadsafe(entered.set)
        while not left:
            time.sleep(0.01)
        raise agent.CommandError("too late")

    monkeypatch.setattr(agent, "single_select", slow)
    commands = agent.Commands(
        agent.Threads(1, "test"),
        *(None, "session", lambda: None, None),  # type: ignore[arg-type]
    )
    running = asyncio.ensure_future(commands.find("osquery").run({"query": "x", "timeout": 1}))
    await asyncio.wait_for(entered.wait(), 20)
    left = True
    with pytest.raises(agent.CommandError, match="too late"):
        await running
