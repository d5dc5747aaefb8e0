"""How large folders and modules are, and that no module imports itself by way of others."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

import grimp
import pytest

from tests.house import sources
from tests.house.sources import Source, planted

LONGEST_FOLDER = 15
LONGEST_MODULE = 350
SHORTEST_MODULE = 20

# Why these are shorter than SHORTEST_MODULE lines.
SHORT = {
    "devices/api/throttles.py": "a setting names the module",
    "devices/apps.py": "Django looks for it",
    "natsbridge/apps.py": "Django looks for it",
    "natsbridge/protocol/hexdump.py": "the admin and a command show bodies with it",
    "tenants/apps.py": "Django looks for it",
    "tenants/audit/export.py": "a page, the API and the admin export the audit",
    "tenants/rules/visible.py": "names and the values of custom fields are checked by it",
    "tenants/templatetags/account.py": "a library of template tags is a module",
    "tenants/views/one_time.py": "how a secret is shown once, on three pages",
    "tenants/session_store.py": "a setting names the module",
    "tests/suites/attacks/__main__.py": "a command",
    "tests/wegweiser/web/conftest.py": "pytest looks for it",
    "wegweiser/apps.py": "Django looks for it",
    "wegweiser/formats/en_GB/formats.py": "Django looks for it",
}


def crowded(modules: Iterable[Source]) -> list[str]:
    """The folders with more than LONGEST_FOLDER modules beside their sub-packages."""
    counts = Counter(str(module.path.parent) for module in modules if not _is_package(module))
    return [f"{folder}: {count}" for folder, count in counts.items() if count > LONGEST_FOLDER]


def too_long(modules: Iterable[Source]) -> list[str]:
    return [
        f"{module}: {module.lines} lines"
        for module in modules
        if module.lines > LONGEST_MODULE and module.path != sources.AGENT
    ]


def too_short(modules: Iterable[Source], reasons: Mapping[str, str]) -> list[str]:
    """The short modules without a reason, and the reasons without a short module."""
    short = {
        str(module)
        for module in modules
        if module.lines < SHORTEST_MODULE and not _is_package(module)
    }
    return [
        *(f"{path}: merge it with what uses it, or say why not" for path in short - set(reasons)),
        *(f"{path}: is not short, so it needs no reason" for path in set(reasons) - short),
    ]


def cycles(imports: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Groups of modules that import each other: Tarjan's strongly connected components."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        path.append(module)
        for imported in imports.get(module, ()):
            if imported not in order:
                visit(imported)
            if imported in path:
                lowest[module] = min(lowest[module], lowest[imported])
        if lowest[module] == order[module]:
            group = path[path.index(module) :]
            del path[path.index(module) :]
            if len(group) > 1 or module in imports.get(module, ()):
                found.append(sorted(group))

    for module in imports:
        if module not in order:
            visit(module)
    return found


def _is_package(module: Source) -> bool:
    return module.path.name == "__init__.py"


def test_no_folder_is_crowded() -> None:
    assert crowded((*sources.product(), *sources.tests())) == []


def test_no_module_outgrows_one_head() -> None:
    assert too_long(sources.product()) == []


def test_a_short_module_has_a_reason() -> None:
    assert too_short((*sources.product(), *sources.tests()), SHORT) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph(*sources.PRODUCT, cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert len(imports) > 100
    assert cycles(imports) == []


def test_a_crowded_folder_is_found() -> None:
    modules = [planted("", f"devices/many/module_{number}.py") for number in range(16)]
    assert crowded(modules) == ["devices/many: 16"]
    # A package below it, and its own __init__, do not count.
    assert crowded([*modules[1:], planted("", "devices/many/__init__.py")]) == []
    assert crowded([*modules[1:], planted("", "devices/many/below/module.py")]) == []


def test_a_long_module_is_found() -> None:
    assert too_long([planted("pass\n" * 351)])
    assert not too_long([planted("pass\n" * 350)])


def test_a_short_module_without_a_reason_is_found_and_a_reason_without_one() -> None:
    module = planted("pass\n" * 19)
    assert too_short([module], {})
    assert not too_short([module], {str(module): "it is a plant"})
    assert too_short([planted("pass\n" * 20)], {str(module): "it is a plant"})
    assert not too_short([planted("", str(PurePosixPath("devices/new/__init__.py")))], {})


@pytest.mark.parametrize(
    "imports",
    [{"a": ["b"], "b": ["a"]}, {"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}, {"a": ["a"]}],
)
def test_a_cycle_is_found(imports: dict[str, list[str]]) -> None:
    assert len(cycles(imports)) == 1


def test_what_only_runs_together_again_is_no_cycle() -> None:
    assert cycles({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}) == []
