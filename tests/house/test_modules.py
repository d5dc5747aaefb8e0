"""What modules of one kind have in common: manage.py's commands, pure code, tests."""

import ast
import re

import pytest

from tests.house import sources
from tests.house.sources import Source, planted

CLOCKS = {
    *("datetime.now", "datetime.utcnow", "datetime.today", "date.today", "timezone.now"),
    *("time.time", "time.monotonic", "time.perf_counter"),
}
IMPURE = ("django", "nats", "asyncio", "redis", "psycopg", "rest_framework", "channels")


def prints_as_it_likes(source: Source) -> bool:
    """Whether it is a command that does not print plain text as the others do."""
    return "PlainCommand" not in source.bases


def impurities(source: Source) -> list[str]:
    """What a pure module may not do: read a clock, or import what talks to a server."""
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in CLOCKS:
            found.append((node.lineno, ast.unparse(node)))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [
                (node.lineno, f"imports {name}")
                for name in names
                if name == "time" or name.partition(".")[0] in IMPURE
            ]
    return sources.numbered(source, found)


_CLOCK = r"(?:monotonic|perf_counter|time)\(\)"
TIMED = re.compile(rf"^ *assert .*(?:{_CLOCK} - \w+|\b(?:elapsed|took|seconds)) <=? *[\w.]+", re.M)


def asserts_a_time(source: Source) -> bool:
    return bool(TIMED.search(source.text))


def starts_a_task(source: Source) -> list[str]:
    """The tasks that it imports although it is not the module that registers them."""
    if source.path.name == "handlers.py":
        return []
    modules = {each.path.stem for each in sources.product()}
    tasks = {stem for stem in modules if stem == "task" or stem.endswith("_task")}
    parts = {part for name in source.imports for part in name.split(".")}
    return [f"{source}: {part}" for part in parts & tasks]


def test_a_task_is_started_where_handlers_register_it_and_nowhere_else() -> None:
    registering = [each for each in sources.product() if each.path.name == "handlers.py"]
    assert registering
    assert any("task" in name for each in registering for name in each.imports)
    assert [line for each in sources.product() for line in starts_a_task(each)] == []


def test_every_command_prints_plain_text() -> None:
    commands = [source for source in sources.product() if sources.is_command(source)]
    assert commands
    assert [str(source) for source in commands if prints_as_it_likes(source)] == []


def test_pure_code_reads_no_clock_and_talks_to_nobody() -> None:
    pure = [source for source in sources.product() if sources.is_pure(source)]
    assert pure
    assert [line for source in pure for line in impurities(source)] == []


def test_no_test_asserts_how_long_something_took() -> None:
    """The machine may be busy: wait for a condition, as `tests.support.waiting` does."""
    timed = [str(test) for test in sources.tests() if asserts_a_time(test)]
    assert [path for path in timed if "suites/bench" not in path] == []


def test_a_command_of_its_own_kind_is_found() -> None:
    path = "devices/management/commands/planted.py"
    assert sources.is_command(planted("", path))
    assert prints_as_it_likes(planted("class Command(BaseCommand): pass", path))
    assert not prints_as_it_likes(planted("class Command(PlainCommand): pass", path))


@pytest.mark.parametrize(
    "path", ["devices/x/rules.py", "devices/x/rules/y.py", "natsbridge/protocol/x.py"]
)
@pytest.mark.parametrize(
    "text",
    [
        "from datetime import datetime\nnow = datetime.now(UTC)",
        "from django.utils import timezone\nnow = timezone.now()",
        "import time",
        "from time import monotonic",
        "import nats.errors",
        "async def f() -> None:\n    import asyncio",
    ],
)
def test_impure_code_where_the_path_promises_purity_is_found(path: str, text: str) -> None:
    module = planted(text, path)
    assert sources.is_pure(module)
    assert impurities(module)


@pytest.mark.parametrize("text", ["from devices.commands import task", "import a.floods_task"])
def test_a_task_that_is_started_elsewhere_is_found(text: str) -> None:
    assert starts_a_task(planted(text))
    assert not starts_a_task(planted(text, "devices/handlers.py"))


# In two parts, so that this module does not break the rule.
@pytest.mark.parametrize("condition", ["monotonic() - began < 3", "took <= LIMIT", "elapsed < 1.5"])
def test_an_assertion_of_a_time_is_found(condition: str) -> None:
    assert asserts_a_time(planted("    assert " + condition))
