"""Which templates a template uses: those of its own app, of the apps below, and the shared ones."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.sources import ROOT

TEMPLATES = ROOT / "templates"
USES = re.compile(r"""{%-?\s*(?:include|extends)\s+["']([^"']+)["']""")
# What the templates of a folder may not use: those of the apps above.
ABOVE = {"tenants": ("devices/",), "account": ("devices/",), "": ("devices/", "tenants/")}


def upward(folder: str, text: str) -> list[str]:
    return [used for used in USES.findall(text) if used.startswith(ABOVE.get(folder, ()))]


def templates() -> Iterator[tuple[str, Path]]:
    for path in sorted(TEMPLATES.rglob("*.html")):
        folder, _, _ = path.relative_to(TEMPLATES).as_posix().rpartition("/")
        yield folder, path


def test_no_template_uses_one_of_an_app_above() -> None:
    found = [
        f"{path.name}: {used}" for f, path in templates() for used in upward(f, path.read_text())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("folder", ["tenants", "account", ""])
def test_a_template_of_an_app_above_is_found(folder: str) -> None:
    assert any(each == folder for each, _ in templates())
    assert upward(folder, '{% include "devices/_fleet.html" with a=1 %}') == ["devices/_fleet.html"]
    assert not upward(folder, '{% extends "base.html" %}{% include "_fields.html" %}')
