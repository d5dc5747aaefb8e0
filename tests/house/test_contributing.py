"""CONTRIBUTING.md names what is there, and every folder that a stranger may look for."""

import re
from pathlib import Path

import pytest

from natsbridge.registry import Registry
from tests.house import sources
from tests.house.sources import ROOT
from tests.house.test_tree import LONGEST_FOLDER, LONGEST_MODULE, SHORTEST_MODULE

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
APPS = ("natsbridge", "tenants", "devices")
# What Django looks for at the top of an app, and a folder may be named like it in each of them.
DJANGO = {"models", "admin", "api", "views", "forms", "migrations", "management", "templatetags"}


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def missing_paths(text: str, root: Path = ROOT) -> list[str]:
    """The paths it names that are not there, neither below the root nor in every app."""
    paths = [
        name
        for name in quoted(text)
        if re.fullmatch(r"[\w.-]+(?:/[\w.-]+)*/?", name) and "/" in name
    ]
    return [
        name
        for name in paths
        if not (root / name).exists()
        and not any((root / app / name).exists() for app in APPS)
        and not any(root.glob(f"*/*/{name}"))
    ]


def unnamed_folders(text: str, root: Path = ROOT) -> list[str]:
    """The features of an app, by folder, that it does not say where to find."""
    folders = [
        f"{app}/{folder.name}/"
        for app in APPS
        for folder in sorted((root / app).iterdir())
        if (folder / "__init__.py").exists() and folder.name not in DJANGO
    ]
    assert folders
    return [folder for folder in folders if folder not in quoted(text)]


def unknown_commands(text: str, makefile: str) -> list[str]:
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    return [name for name in re.findall(r"`make ([a-z-]+)`", text) if name not in targets]


def unknown_names(text: str) -> list[str]:
    """The names of code that it mentions and no module has."""
    code = "\n".join(source.text for source in (*sources.product(), *sources.tests()))
    names = {name for name in quoted(text) if re.fullmatch(r"[A-Z]\w+|\w+(?:_\w+)+", name)}
    names |= {last for name in quoted(text) for last in re.findall(r"^@[\w.]*?(\w+)(?:\(|$)", name)}
    return sorted(name for name in names if not re.search(rf"\b{name}\b", code))


def test_the_paths_it_names_exist() -> None:
    assert missing_paths(CONTRIBUTING) == []


def test_it_says_what_each_folder_is_for() -> None:
    assert unnamed_folders(CONTRIBUTING) == []


def test_its_commands_and_names_exist() -> None:
    assert unknown_commands(CONTRIBUTING, (ROOT / "Makefile").read_text()) == []
    assert unknown_names(CONTRIBUTING) == []


def test_its_decorators_are_those_of_the_registry() -> None:
    named = set(re.findall(r"`@registry\.(\w+)", CONTRIBUTING))
    assert named
    assert {name for name in named if not callable(getattr(Registry, name, None))} == set()


def test_its_limits_are_those_that_are_counted() -> None:
    text = " ".join(CONTRIBUTING.split())
    assert f"at most {LONGEST_FOLDER} modules" in text
    assert f"at most {LONGEST_MODULE} lines, and at least {SHORTEST_MODULE}" in text


def test_the_readme_points_to_it() -> None:
    assert "(CONTRIBUTING.md)" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    "line",
    [
        "`devices/nowhere/`",
        "`tests/support/gone.py`",
        "`natsbridge/protocol/subject.py`",
        "`api/gone.py`",
    ],
)
def test_a_path_that_is_not_there_is_found(line: str) -> None:
    assert missing_paths(f"Look in {line}.") == [line.strip("`")]


def test_a_folder_that_nobody_explains_is_found(tmp_path: Path) -> None:
    for app in APPS:
        (tmp_path / app / "feature").mkdir(parents=True)
        (tmp_path / app / "feature" / "__init__.py").touch()
    explained = "`tenants/feature/` and `devices/feature/`"
    assert unnamed_folders(explained, tmp_path) == ["natsbridge/feature/"]


def test_a_command_or_a_name_that_is_not_there_is_found() -> None:
    assert unknown_commands("`make coffee`", "lint:\n") == ["coffee"]
    # Put together here, since this module is code as well.
    assert unknown_names(f"`{'no_such' + '_function'}`") != []
