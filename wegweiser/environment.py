"""Settings from the environment: a wrong one is remembered and reported as a system check.

A value that cannot be used falls back to the default, so that the check can run and say all
that is wrong at once instead of a traceback about the first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import environ
from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True)
class Problem:
    """One setting that cannot be used, and what would be right."""

    name: str
    message: str
    hint: str


@dataclass
class Environment:
    """Typed look-ups in `variables`; `problems` collects what was wrong, `names` what was asked."""

    variables: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def text(self, name: str, default: str = "") -> str:
        self.names.add(name)
        return self.variables.get(name, "").strip() or default

    def integer(self, name: str, default: int, *, minimum: int = 0) -> int:
        raw = self.text(name)
        if not raw:
            return default
        if raw.removeprefix("-").isdecimal() and int(raw) >= minimum:
            return int(raw)
        return self._wrong(
            name, f"is {raw!r}", f"Give a whole number of at least {minimum}.", default
        )

    def flag(self, name: str, default: bool) -> bool:
        raw = self.text(name).lower()
        if not raw:
            return default
        if raw in environ.Env.BOOLEAN_TRUE_STRINGS:
            return True
        if raw in ("false", "off", "no", "n", "0"):
            return False
        return self._wrong(name, f"is {raw!r}", "Give true or false.", default)

    def words(self, name: str, default: list[str]) -> list[str]:
        raw = self.text(name)
        return [word.strip() for word in raw.split(",") if word.strip()] if raw else default

    def path(self, name: str, default: Path) -> Path:
        raw = self.text(name)
        return Path(raw).expanduser().resolve() if raw else default

    def url(self, name: str, default: str, *, schemes: tuple[str, ...]) -> str:
        raw = self.text(name, default)
        hint = f"Give an address like {schemes[0]}://host:port."
        try:
            parts = urlsplit(raw)
            usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        except ValueError as error:
            return self._wrong(name, f"cannot be read: {error}", hint, default)
        if usable:
            return raw
        return self._wrong(name, "is not a usable address", hint, default)

    def urls(self, name: str, default: str, *, schemes: tuple[str, ...]) -> str:
        """One address or several, by commas and without spaces."""
        addresses = self.words(name, [default])
        before = len(self.problems)
        for address in addresses:
            Environment({name: address}, self.problems).url(name, default, schemes=schemes)
        self.names.add(name)
        return ",".join(addresses) if len(self.problems) == before else default

    def database(self, name: str, default: str) -> dict[str, Any]:
        url = self.url(name, default, schemes=("postgres", "postgresql"))
        try:
            return dict(environ.Env.db_url_config(url))
        except (ImproperlyConfigured, ValueError) as error:
            return self._wrong(
                name,
                f"cannot be read: {error}",
                "Give postgres://user:password@host:port/database.",
                dict(environ.Env.db_url_config(default)),
            )

    def redis_url(self, default: str, *, host: str, port: str, database: str) -> str:
        """`default` with what the three variables say in place of its own."""
        parts = urlsplit(default)
        if parts.scheme == "unix":
            return default
        own_path = parts.path.lstrip("/")
        own_database = int(own_path) if own_path.isdecimal() else 0
        number = self.integer(database, own_database)
        address = parts._replace(path=f"/{number}")
        if self.text(host) or self.text(port):
            name = self.text(host) or parts.hostname
            credentials = parts.netloc.rpartition("@")[0]
            netloc = f"{name}:{self.integer(port, parts.port or 6379, minimum=1)}"
            address = address._replace(netloc=f"{credentials}@{netloc}" if credentials else netloc)
        return urlunsplit(address)

    def choice(self, name: str, default: str, *, allowed: tuple[str, ...]) -> str:
        raw = self.text(name, default)
        if raw in allowed:
            return raw
        return self._wrong(name, f"is {raw!r}", f"Give one of {', '.join(allowed)}.", default)

    def _wrong(self, name: str, message: str, hint: str, default: Any) -> Any:
        self.problems.append(Problem(name, f"{name} {message}.", hint))
        return default
