"""Rules of this house that no linter knows."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REACHED_BY_PEOPLE = ("devices/api", "devices/views", "devices/live/consumers.py")
MANAGER = re.compile(r"(\w+)\.(?:objects|_default_manager|_base_manager)\.(\w+)")
TENANT_SAFE = {"visible_to", "none", "holding_token", "managed_by", "of_tenant"}


def sources(*places: str) -> list[Path]:
    found: list[Path] = []
    for place in places:
        path = ROOT / place
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert found
    return found


def test_api_views_and_websockets_reach_rows_only_through_visible_to() -> None:
    for path in sources(*REACHED_BY_PEOPLE):
        for model, method in MANAGER.findall(path.read_text()):
            assert method in TENANT_SAFE, f"{path.name}: {model}.objects.{method}"


def test_actions_are_the_only_writers_behind_api_views_and_websockets() -> None:
    writing = re.compile(r"\.(?:save|create|update|delete|bulk_create|get_or_create)\(")
    for path in sources(*REACHED_BY_PEOPLE):
        assert not writing.search(path.read_text()), path.name


def test_the_state_of_a_command_changes_only_where_the_graph_is_asked() -> None:
    assigned = re.compile(r"\.state = |SET state = '\w")
    for path in sources("devices"):
        if path.name not in ("command.py", "nats_persistent_agent.py"):
            assert not assigned.search(path.read_text()), path.name


def test_no_module_of_ours_outgrows_one_head() -> None:
    for path in sources("wegweiser", "devices", "tenants", "natsbridge"):
        if "migrations" in path.parts or path.name == "nats_persistent_agent.py":
            continue
        lines = len(path.read_text().splitlines())
        assert lines <= 350, f"{path.relative_to(ROOT)} has {lines} lines"


def test_every_command_prints_plain_text() -> None:
    found = sources("wegweiser", "devices", "tenants", "natsbridge")
    commands = [path for path in found if path.match("management/commands/[!_]*.py")]
    assert commands
    for path in commands:
        assert "class Command(PlainCommand):" in path.read_text(), path.name


def test_no_test_asserts_how_long_something_took() -> None:
    """The machine may be busy: wait for a condition, as `tests.support.waiting` does."""
    clock = r"(?:monotonic|perf_counter|time)\(\)"
    timed = re.compile(
        rf"^ *assert .*(?:{clock} - \w+|\b(?:elapsed|took|seconds)) <=? *[\w.]+", re.M
    )
    for path in sources("tests"):
        if "bench" not in path.parts:
            assert not timed.search(path.read_text()), f"{path.relative_to(ROOT)}"
