"""The sources that the rules of the house read, and what kind of module each is.

A rule finds its modules by what they are or import, so that it follows them when they move.
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("wegweiser", "devices", "tenants", "natsbridge")
AGENT = PurePosixPath("devices/agent/nats_persistent_agent.py")
ADMIN = ("django.contrib.admin", "unfold")


@dataclass(frozen=True)
class Source:
    """One Python module: its path below the root, and its text."""

    path: PurePosixPath
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @cached_property
    def imports(self) -> set[str]:
        """The dotted names of what it imports: `a.b.c` of `from a.b import c`."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        return found

    def imports_from(self, *packages: str) -> bool:
        return any(
            f"{name}.".startswith(f"{package}.") for name in self.imports for package in packages
        )

    @cached_property
    def bases(self) -> set[str]:
        """The names of the classes that its own classes inherit from, without their modules."""
        return {
            ast.unparse(base).partition("[")[0].rpartition(".")[2]
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ClassDef)
            for base in node.bases
        }

    @cached_property
    def answers_requests(self) -> bool:
        """Whether one of its functions takes a request of the web and returns a response."""
        return any(
            _annotated(node.returns, "Response", "ResponseBase")
            and any(
                _annotated(argument.annotation, "Request")
                for argument in (*node.args.args, *node.args.kwonlyargs)
            )
            for node in ast.walk(self.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        )

    def __str__(self) -> str:
        return str(self.path)


def below(root: Path, *places: str) -> list[Source]:
    """Every Python module below these folders of `root`, but for migrations."""
    return [
        Source(PurePosixPath(path.relative_to(root).as_posix()), path.read_text())
        for place in places
        for path in sorted((root / place).rglob("*.py"))
        if "migrations" not in path.parts
    ]


@cache
def product() -> tuple[Source, ...]:
    return tuple(below(ROOT, *PRODUCT))


@cache
def tests() -> tuple[Source, ...]:
    return tuple(below(ROOT, "tests"))


def planted(text: str, path: str = "devices/planted.py") -> Source:
    """A module that is not there, for a test of a rule."""
    return Source(PurePosixPath(path), text)


# The kinds of modules.

Kind = Callable[[Source], bool]


def is_api(source: Source) -> bool:
    return source.imports_from("rest_framework") or _defines(source, "APIView", "ViewSet")


def is_page(source: Source) -> bool:
    return (
        source.imports_from("django.shortcuts", "django.views.generic") or source.answers_requests
    )


def is_websocket(source: Source) -> bool:
    return source.imports_from("channels.generic") or _defines(source, "Consumer")


def is_admin(source: Source) -> bool:
    return source.imports_from(*ADMIN) or "admin" in source.path.parts


def is_reached_by_people(source: Source) -> bool:
    """Whether it answers people and devices through the web, or helps a module that does.

    The admin does not count: it is for staff, who see every tenant.
    """
    helps = bool({"api", "views"} & set(source.path.parts))
    return not is_admin(source) and (
        helps or is_api(source) or is_page(source) or is_websocket(source)
    )


def is_command(source: Source) -> bool:
    """Whether it is a command of manage.py."""
    return (
        "commands" in source.path.parts
        and "management" in source.path.parts[:-2]
        and (not source.path.name.startswith("_"))
    )


def is_pure(source: Source) -> bool:
    """Whether its path promises that it is pure."""
    path = source.path
    return "rules" in (*path.parts, path.stem) or path.as_posix().startswith(
        ("natsbridge/protocol/", "natsbridge/identity/", "natsbridge/server/")
    )


def _annotated(annotation: ast.expr | None, *endings: str) -> bool:
    return annotation is not None and ast.unparse(annotation).endswith(endings)


def _defines(source: Source, *endings: str) -> bool:
    return any(base.endswith(endings) for base in source.bases)


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Each string of a module, with its line; what an f-string inserts is written as `{}`."""
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(value) for value in node.values}
            yield node.lineno, "".join(_part(value) for value in node.values)
        elif isinstance(value := getattr(node, "value", None), str) and id(node) not in inside:
            yield getattr(node, "lineno", 1), value


def _part(value: ast.expr) -> str:
    return str(value.value) if isinstance(value, ast.Constant) else "{}"


def numbered(source: Source, lines: Iterable[tuple[int, str]]) -> list[str]:
    """What a rule found, as the test prints it."""
    return [f"{source}:{line}: {what}" for line, what in sorted(set(lines))]
