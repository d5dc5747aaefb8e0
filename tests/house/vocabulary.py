"""The names and the text of every file that people read, for the test of our words."""

import ast
import io
import keyword
import re
import tokenize
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate
from pathlib import PurePosixPath

from tests.house.sources import ROOT

PLACES = ("wegweiser", "devices", "tenants", "natsbridge", "tests", "templates", "static", "docs")
FILES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    ".env.example",
    "Makefile",
    "pyproject.toml",
)
KINDS = {".py", ".html", ".js", ".css", ".md"}
# They quote what they forbid.
QUOTING = PurePosixPath("tests/house")

NAME = re.compile(r"[A-Za-z_][\w-]*")
TAG = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|<[^>]*>", re.DOTALL)
# A key, a counter, a class of CSS or the like, and no sentence.
CODE = re.compile(r"[A-Za-z_][\w.:/*{}-]*")
# In text for people: a word in backticks, or the name of a setting.
QUOTED = re.compile(r"`([A-Za-z_][\w.-]*)`|\b([A-Z]+(?:_[A-Z]+)+)\b")
COMMENT = re.compile(r"(?<!:)//[^\n]*|/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True)
class Text:
    """One file: its path below the root, and what it says."""

    path: PurePosixPath
    text: str

    @cached_property
    def names(self) -> list[tuple[int, str]]:
        """Its identifiers in snake_case, with their lines; the parts of its path are on line 0.

        The name of a test is a sentence, and not among them.
        """
        found = [(line, snake_case(name)) for line, name in (*self._path(), *self._names())]
        return [(line, name) for line, name in found if not name.startswith("test_")]

    @cached_property
    def definitions(self) -> list[tuple[int, str]]:
        """The names of its functions and classes that other modules may import."""
        if self.path.suffix != ".py":
            return []
        found = [
            (node.lineno, re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", node.name).lower())
            for node in ast.parse(self.text).body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        ]
        return [(line, name) for line, name in found if not name.startswith("test_")]

    @property
    def module(self) -> list[tuple[int, str]]:
        return [(0, self.path.stem)]

    def said(self, pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
        """Where a phrase stands, also over the end of a line, and in the name of a test."""
        flow, starts, offsets = self._flow
        for match in pattern.finditer(flow):
            word = bisect_right(starts, match.start()) - 1
            yield self.line(offsets[word]), match[0]

    @cached_property
    def _flow(self) -> tuple[str, list[int], list[int]]:
        """The text as one line; where each word begins there, and in the file."""
        sentences = re.sub(r"\btest_\w+", lambda name: name[0].replace("_", " "), self.text)
        # What is between two words, such as the end of a line in a comment, becomes one space.
        words = list(re.finditer(r"(?:(?!//)[^\s#\"])+", sentences))
        starts = list(accumulate((len(word[0]) + 1 for word in words), initial=0))
        return " ".join(word[0] for word in words), starts, [word.start() for word in words]

    def _path(self) -> Iterator[tuple[int, str]]:
        yield from ((0, part) for part in (*self.path.parts[:-1], self.path.stem))

    def _names(self) -> Iterator[tuple[int, str]]:
        match self.path.suffix:
            case ".py":
                yield from _python_names(self.text)
            case ".html":
                for tag in TAG.finditer(self.text):
                    for name in NAME.finditer(tag[0]):
                        yield self.line(tag.start() + name.start()), name[0]
            case ".js" | ".css":
                code = COMMENT.sub(lambda comment: re.sub(r"[^\n]", " ", comment[0]), self.text)
                for name in NAME.finditer(code):
                    yield self.line(name.start()), name[0]
            case _:
                for name in re.finditer(
                    r"`([A-Za-z_][\w.-]*)`|\b([A-Z]+(?:_[A-Z]+)+)\b", self.text
                ):
                    yield self.line(name.start()), name[1] or name[2]

    def line(self, offset: int) -> int:
        return self.text.count("\n", 0, offset) + 1


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[.:/*{}-]+", "_", name).lower().strip("_")


def _python_names(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        line = token.start[0]
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
            yield line, token.string
        elif token.type == tokenize.STRING:
            said = token.string.lstrip("rbfuRBFU").strip("\"'")
            if CODE.fullmatch(said):
                yield line, said


@cache
def files() -> tuple[Text, ...]:
    """Every file that people read, but for migrations and what others wrote."""
    found = [path for place in PLACES for path in sorted((ROOT / place).rglob("*"))]
    texts = [path for path in found if path.suffix in KINDS] + [ROOT / name for name in FILES]
    return tuple(
        Text(relative, path.read_text())
        for path in texts
        if path.is_file()
        for relative in [PurePosixPath(path.relative_to(ROOT).as_posix())]
        if not relative.is_relative_to(QUOTING)
        and not {"migrations", "vendor"} & set(relative.parts)
    )
