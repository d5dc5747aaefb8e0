"""The state of a command changes where its graph is asked, and nowhere else."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.house import sources
from tests.house.sources import Source, planted

# The class that asks the graph for rows. In its module alone a state may change, in these ways.
HOME = "CommandQuerySet"
ALLOWED = {"CommandQuerySet.move_to", "Command.become"}
UPDATES = {"update", "aupdate", "bulk_update", "abulk_update"}
SQL = re.compile(
    r"""\bUPDATE \s+ "?devices_command\b
    | \bSET\b (?: (?! \bWHERE\b | \bFROM\b | ; ) . )* \bstate"? \s* = """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)


def changes(source: Source) -> list[str]:
    """Where it sets the state of a command without asking the graph."""
    if not _knows_commands(source):
        return []
    home = any(isinstance(node, ast.ClassDef) and node.name == HOME for node in source.tree.body)
    asks = {
        id(inner)
        for name, function in _methods(source.tree)
        if home and name in ALLOWED
        for inner in ast.walk(function)
    }
    found = [
        (node.lineno, ast.unparse(node).splitlines()[0])
        for node in ast.walk(source.tree)
        if isinstance(node, ast.expr | ast.stmt) and id(node) not in asks
        if _updates(node) or _assigns(node)
    ]
    if not home:
        texts = sources.strings(source.tree)
        found += [(line, text.strip().splitlines()[0]) for line, text in texts if SQL.search(text)]
    return sources.numbered(source, found)


def _knows_commands(source: Source) -> bool:
    if source.path == sources.AGENT:
        return False
    inside = source.path.parts[0] == "devices" or source.imports_from("devices")
    return inside or "devices_command" in source.text


def _methods(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    for owner in tree.body:
        if isinstance(owner, ast.ClassDef):
            for node in owner.body:
                if isinstance(node, ast.FunctionDef):
                    yield f"{owner.name}.{node.name}", node


def _updates(node: ast.AST) -> bool:
    """`.update(state=...)`, `.update(**{"state": ...})`, `.bulk_update(rows, ["state"])`."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    if node.func.attr not in UPDATES:
        return False
    spread = [keyword.value for keyword in node.keywords if keyword.arg in (None, "fields")]
    return any(keyword.arg == "state" for keyword in node.keywords) or any(
        isinstance(inner, ast.Constant) and inner.value == "state"
        for given in (*node.args, *spread)
        for inner in ast.walk(given)
    )


def _assigns(node: ast.AST) -> bool:
    """`command.state = ...`, also among several, and `setattr(command, "state", ...)`."""
    if isinstance(node, ast.Call):
        is_setattr = isinstance(node.func, ast.Name) and node.func.id == "setattr"
        return is_setattr and "'state'" in [ast.unparse(given) for given in node.args]
    return (
        isinstance(node, ast.Attribute) and node.attr == "state" and isinstance(node.ctx, ast.Store)
    )


def test_the_state_of_a_command_changes_only_where_the_graph_is_asked() -> None:
    assert any(f"class {HOME}(" in source.text for source in sources.product())
    assert [line for source in sources.product() for line in changes(source)] == []


PLANTED = [
    "rows.update(state=CommandState.SENT)",
    "rows.filter(x=1).update(error='', state=state)",
    "await rows.aupdate(state='sent')",
    "rows.update(**{'state': 'sent'})",
    "rows.update(**dict(finished_at=now) | {'state': 'sent'})",
    "Command.objects.bulk_update(commands, ['error', 'state'])",
    "Command.objects.bulk_update(commands, fields=['state'])",
    "command.state = CommandState.SENT",
    "command.error, command.state = '', 'sent'",
    "for command.state in states: pass",
    "setattr(command, 'state', 'sent')",
    "cursor.execute(\"UPDATE devices_command SET state = 'sent' WHERE id = 1\")",
    "cursor.execute('update devices_command set error = %s,\\n state=%s')",
    "cursor.execute(f'UPDATE {table} SET sent_at = now(), state = {state}')",
    "cursor.execute(f\"UPDATE devices_command AS c SET {', '.join(columns)}\")",
]


@pytest.mark.parametrize("text", PLANTED)
@pytest.mark.parametrize("path", ["devices/commands/bulk.py", "wegweiser/management/commands/x.py"])
def test_a_way_around_the_graph_is_found(text: str, path: str) -> None:
    assert changes(planted(f"from devices.models import Command\n{text}", path))


def test_beside_the_functions_that_ask_it_a_way_around_the_graph_is_found_too() -> None:
    text = "def {name}(self, state):\n        self.update(state=state)"
    asking = f"class {HOME}:\n    {text.format(name='move_to')}"
    assert not changes(planted(asking))
    assert changes(planted(f"{asking}\n    {text.format(name='expire')}"))
    assert changes(planted(asking.replace(HOME, "BulkQuerySet")))


@pytest.mark.parametrize(
    "text",
    [
        "rows.filter(state=CommandState.SENT).update(error='')",
        "cursor.execute('UPDATE devices_device SET seen = 1 WHERE state = 2')",
        "state = command.state",
        "seen.update({'stated': 1})",
    ],
)
def test_what_changes_no_state_is_not_found(text: str) -> None:
    assert not changes(planted(text))
