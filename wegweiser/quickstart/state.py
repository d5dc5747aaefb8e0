"""Remember between runs of a home: secrets, ports, and the answer in quickstart.json."""

import base64
import json
import os
import secrets
import shlex
import tempfile
from collections.abc import Mapping, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from wegweiser.quickstart.errors import SetupFailed
from wegweiser.quickstart.ports import free_port

# Homes and databases from before the first release are not carried over.
RELEASE = "0.1.0"


def write_private(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON that only we can read, whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        # mkstemp made it 0600.
        with os.fdopen(descriptor, "w") as stream:
            json.dump(content, stream, indent=2)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_environment(path: Path, variables: Mapping[str, str]) -> None:
    """Write a shell script that only we can read, and that sets the variables."""
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in sorted(variables.items())]
    path.touch(mode=0o600)
    path.write_text("".join(lines))


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty when there is none that can be used."""
    with suppress(FileNotFoundError, ValueError):
        content = json.loads(path.read_text())
        if isinstance(content, dict):
            return content
    return {}


def refuse_older_home(home: Path) -> None:
    """Raise SetupFailed for a home from before RELEASE, and touch nothing in it."""
    made = read_object(home / "secrets.json")
    if isinstance(made.get("field_encryption_key"), str) and "release" not in made:
        raise SetupFailed(
            f"{home} is from before Wegweiser {RELEASE}, which cannot read it: remove the folder "
            "to start afresh, or name another one in WEGWEISER_HOME."
        )


@dataclass(frozen=True)
class Secrets:
    """Made once for each home. Losing them means losing what they encrypt and sign."""

    secret_key: str
    field_encryption_key: str
    postgres_password: str
    redis_password: str
    audit_key: str
    # The one that made the home.
    release: str = RELEASE

    @classmethod
    def of_home(cls, home: Path) -> Self:
        """Raises SetupFailed when the file is there but not whole."""
        path = home / "secrets.json"
        if not path.exists():
            created = cls(
                secret_key=secrets.token_urlsafe(50),
                field_encryption_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                postgres_password=secrets.token_hex(16),
                redis_password=secrets.token_hex(16),
                audit_key=secrets.token_urlsafe(50),
            )
            write_private(path, asdict(created))
            return created
        content = read_object(path)
        names = {each.name for each in fields(cls)}
        if content.keys() != names or not all(isinstance(each, str) for each in content.values()):
            raise SetupFailed(
                f"{path} is damaged. Without it {home} cannot be used: restore the file, or remove "
                "the whole folder to start afresh."
            )
        return cls(**content)


@dataclass(frozen=True)
class Ports:
    """The ports of 127.0.0.1 that this run uses."""

    web: int = 8000
    postgres: int = 5432
    redis: int = 6379
    nats: int = 4222
    nats_monitor: int = 8222

    @classmethod
    def choose(
        cls, home: Path, *, web: int | None, unused: Set[str] = frozenset()
    ) -> tuple[Self, list[str]]:
        """Those of the last run, or the usual ones; where one is taken, the next free one.

        Also a sentence about each that was taken. `web` is the port wished for the web; those
        named in `unused` are for servers that we do not start.
        """
        path = home / "ports.json"
        remembered = read_object(path)
        chosen: dict[str, int] = {}
        notes = []
        for name, usual in asdict(cls()).items():
            wished = remembered.get(name, usual)
            if name == "web" and web is not None:
                wished = web
            if not isinstance(wished, int) or not 0 < wished < 65536:
                wished = usual
            if name in unused:
                chosen[name] = wished
                continue
            chosen[name] = free_port(wished, set(chosen.values()))
            if chosen[name] != wished:
                label = name.replace("_", " ")
                notes.append(f"Port {wished} is taken: {label} uses {chosen[name]}.")
        write_private(path, chosen)
        return cls(**chosen), notes


@dataclass(frozen=True)
class Accounts:
    """What bootstrap made for the first person, as it is kept in bootstrap.json.

    `admin_password` is empty when the person has chosen another one.
    """

    admin_username: str
    admin_password: str
    api_token: str
    tenant_uuid: str
    group_uuid: str
    enrollment_key: str

    @staticmethod
    def path(home: Path) -> Path:
        return home / "bootstrap.json"

    @classmethod
    def of_home(cls, home: Path) -> Self | None:
        content = read_object(cls.path(home))
        if content.keys() != {each.name for each in fields(cls)}:
            return None
        return cls(**content)

    def save(self, home: Path) -> None:
        write_private(self.path(home), asdict(self))


@dataclass(frozen=True)
class Running:
    """The content of quickstart.json: all that a script or another agent needs to start from."""

    url: str
    admin_username: str
    admin_password: str
    api_token: str
    tenant_uuid: str
    group_uuid: str
    enrollment_key: str
    device_uuid: str
    nats_url: str
    nats_monitor_url: str

    @staticmethod
    def path(home: Path) -> Path:
        return home / "quickstart.json"

    def save(self, home: Path) -> None:
        write_private(self.path(home), asdict(self))
