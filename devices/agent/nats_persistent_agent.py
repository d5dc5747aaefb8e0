#!/usr/bin/env python3
"""The Wegweiser agent: watches this computer and runs commands on it, over NATS.

One file that needs Python 3.11 or later and two packages: pip install "nats-py[nkeys]" psutil
(and aiohttp, where the broker is reached by wss://)

Enrol once; the enrolment key is best given through the environment, where `ps` does not show it:

    WEGWEISER_ENROLLMENT_KEY=... python nats_persistent_agent.py --server URL --group UUID

or, where another system has registered this computer, take over its device with a token of it:

    WEGWEISER_DEVICE_TOKEN=... python nats_persistent_agent.py --server URL --device UUID

After that, start it without arguments. Its configuration folder contains

    agent.json        identity, device token, private key and JWT (mode 0600)
    commands.journal  the commands it has run, and answers not yet confirmed as stored
    agent.lock        held while an agent runs on this configuration

and belongs to the user that runs the agent; no other user may write there. A damaged file is kept
as NAME.damaged-..., and the agent starts without it.
"""

import argparse
import asyncio
import base64
import binascii
import contextlib
import dataclasses
import enum
import errno
import importlib.util
import ipaddress
import itertools
import json
import logging
import logging.handlers
import math
import os
import platform
import random
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, ClassVar, NoReturn, TypeGuard, TypeVar

try:
    import nats.errors
    import nkeys
    import psutil
    from nats.aio.client import Client
    from nats.aio.msg import Msg
except ImportError as missing:
    sys.exit(f'{missing}; the agent needs: pip install "nats-py[nkeys]" psutil')

VERSION = "0.1.0"

HEARTBEAT_SECONDS = 60.0
METRICS_SECONDS = 2.0
ACK_SECONDS = 5.0
HTTP_SECONDS = 15.0
CONNECT_SECONDS = 30.0
RENEWAL_CHECK_SECONDS = 30.0
STOP_SECONDS = 1.0
RESTART_SECONDS = 10.0
RENEWAL_SECONDS = 60.0
COMMANDS_AT_ONCE = 4
# The platform accepts messages of up to 320 KiB.
MAX_RESPONSE_BYTES = 320_000
# The streams whose confirmation means that the platform has stored a message.
CONFIRMING_STREAMS = ("INGEST", "LATEST")
# The broker's error code for a message that is too large for its stream.
TOO_LARGE_ERROR = 10054
# A result is cut to this size; the rest of the message needs the difference.
MAX_RESULT_BYTES = MAX_RESPONSE_BYTES - 2_000
# No more of a program's output is read, since it must be parsed before it can be cut.
MAX_OUTPUT_BYTES = 8_388_608
MAX_HTTP_BYTES = 1_048_576
MAX_ID_LENGTH = 128
# A command has the id of the request that issued it in this header; its responses return it.
CORRELATION_HEADER = "Correlation-Id"
CORRELATION_ID = re.compile(rf"[A-Za-z0-9._:/+=-]{{1,{MAX_ID_LENGTH}}}")
# The server lets commands of depth 64 through. What writes and reads JSON calls itself at each
# level, so far more than this is too much for it.
MAX_DEPTH = 100
MAX_COMMAND_BYTES = 1_048_576
# Every system takes this much as an argument of a program.
MAX_QUERY_BYTES = 30_000
MAX_ERROR_LENGTH = 2_000
MAX_CONFIGURATION_BYTES = 4_194_304
# The agent keeps its journal below half of this.
MAX_JOURNAL_BYTES = 268_435_456
MAX_LINE_BYTES = 4_194_304
# The server accepts timestamps that are off by at most 300 s.
MAX_PROOF_LEAD = 240

METRIC_TYPES = (
    "cpu_percent",
    "memory_percent",
    "disk_percent",
    "network_bytes_in",
    "network_bytes_out",
    "uptime",
)

# Beside them a file may hold remarks in any language.
PEM_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----"
)

JsonObject = dict[str, Any]
Result = TypeVar("Result")
# Takes what a message says, and the id of the request that the header CORRELATION_HEADER names.
Receive = Callable[[bytes, str], Awaitable[None]]

log = logging.getLogger("wegweiser.agent")


class AgentError(Exception):
    """The base of the agent's errors; each message is written for people."""


class ConfigurationError(AgentError):
    """The configuration is missing, unreadable or in use by another agent."""


class DamagedFileError(AgentError):
    """A file of the agent's does not have the content that the agent writes."""


class RequestRefusedError(AgentError):
    """The server understood the request and refused it; `status` is its HTTP status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ServerUnavailableError(AgentError):
    """The server gave no usable answer; it may do so later."""


class LoginRefusedError(AgentError):
    """The broker does not accept the JWT."""


class BrokerUnavailableError(AgentError):
    """There is no connection to the broker."""


class NotStoredError(AgentError):
    """The broker did not confirm that it stored a message."""


class MessageTooLargeError(NotStoredError):
    """The broker will never store this message."""


class CommandError(AgentError):
    """A command cannot be run, or failed; the message is sent as its response."""


class Outcome(enum.Enum):
    """Why the agent ended."""

    STOPPED = enum.auto()
    RESTART = enum.auto()


class Backoff:
    """Pauses between attempts, which double from `first` to `longest` seconds. Each is half to one
    and a half times as long, so that many agents do not come back at once."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._attempts = 0

    def next(self) -> float:
        pause = min(self._longest, self._first * 2.0 ** min(self._attempts, 30))
        self._attempts += 1
        return pause * random.uniform(0.5, 1.5)  # noqa: S311 - no secret

    def reset(self) -> None:
        self._attempts = 0


class Threads:
    """Run blocking calls in threads, so that none of them holds up the event loop."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, function: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


async def set_within(event: asyncio.Event, seconds: float | None) -> bool:
    """Return whether the event was set within this time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def keep_running(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Own a task that should never end; after a bug log the traceback, pause, start it again."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s failed and is started again", name)
        await asyncio.sleep(5)


async def unless_ended(
    ended: "asyncio.Future[Outcome]", work: Coroutine[Any, Any, Result]
) -> Result | None:
    """Return the result of `work`, or None if the agent has to end before that."""
    task = asyncio.ensure_future(work)
    either: set[asyncio.Future[Any]] = {task, ended}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        return task.result()
    await cancelled([task])
    return None


def printable(text: str) -> str:
    """Return the text on one line, without control characters that a terminal would obey."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


class Formatter(logging.Formatter):
    """Write texts from elsewhere, such as the server's reasons, without control characters."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = printable(record.message)
        return super().formatMessage(record)


def nested_too_deep(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        level = [member for each in level for member in members(each)]
        if not level:
            return False
    return True


def members(value: object) -> Collection[object]:
    match value:
        case dict():
            return value.values()
        case list() | tuple():
            return value
    return ()


def clean(value: object) -> Any:
    """Return the value as JSON that every reader accepts: without NaN, lone surrogates and NUL."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode().replace("\0", "")
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {clean(str(key)): clean(item) for key, item in value.items()}
        case list() | tuple():
            return [clean(item) for item in value]
    return value


def to_json(value: object) -> bytes:
    return json.dumps(
        clean(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")
    ).encode()


def epoch_seconds() -> float:
    return round(time.time(), 3)


@dataclasses.dataclass
class Configuration:
    """What the agent knows about itself, as it is stored in agent.json.

    Before enrolment only the first four fields and `proved_at` are set: the key pair is on disk
    before the server gets to know it, so that a crash in between cannot lose a device.
    """

    server_url: str
    group_uuid: str
    device_name: str
    nkey_seed: str
    device_uuid: str = ""
    tenant_uuid: str = ""
    device_token: str = ""
    # One address of the broker, or several by commas.
    nats_url: str = ""
    jwt: str = ""
    # This computer's clock when the JWT came: its age is measured by that clock alone, so a
    # clock that is wrong does no harm.
    jwt_received_at: float = 0.0
    # The only CA to trust, in PEM; if empty, those that the system trusts.
    ca: str = ""
    # Whether http, nats and ws to other computers are allowed.
    insecure: bool = False
    # The newest timestamp signed for an enrolment; the server accepts each only once.
    proved_at: int = 0

    @property
    def enrolled(self) -> bool:
        return bool(self.device_uuid and self.device_token and self.tenant_uuid)

    @classmethod
    def from_json(cls, content: bytes) -> "Configuration":
        """Read agent.json. Raise DamagedFileError, also if the key or an address cannot be used. A
        JWT that cannot be used is ignored, since another is fetched."""
        try:
            entries = json.loads(content)
            known = {field.name: field.type for field in dataclasses.fields(cls)}
            configuration = cls(**{name: entries[name] for name in entries if name in known})
            for name, value in vars(configuration).items():
                check_type(name, value, known[name])
            server_url(configuration.server_url)
            Key(configuration.nkey_seed)
            configuration.trust()
            for identity in (configuration.device_uuid, configuration.tenant_uuid):
                if identity and str(uuid.UUID(identity)) != identity:
                    raise ValueError(f"{identity!r} is not a UUID as the agent writes it")
        except (
            *(ValueError, TypeError, OverflowError, RecursionError),
            ConfigurationError,
        ) as error:
            raise DamagedFileError(f"cannot be used: {error}") from error
        return configuration

    def trust(self) -> ssl.SSLContext:
        """Return a context that verifies certificate and name. Raise ConfigurationError."""
        try:
            return ssl.create_default_context(cadata=self.ca or None)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"the CA in the configuration is damaged: {error}") from error

    def take_credentials(self, credentials: JsonObject) -> None:
        """Take over `{jwt, nats_url, nats_urls?}`. Raise ServerUnavailableError if they cannot be
        used."""
        jwt = text_of(credentials, "jwt")
        jwt_lifetime(jwt)
        urls = credentials.get("nats_urls")
        if isinstance(urls, list) and urls and all(isinstance(url, str) and url for url in urls):
            self.nats_url = ",".join(urls)
        else:
            self.nats_url = text_of(credentials, "nats_url")
        self.jwt = jwt
        self.jwt_received_at = time.time()


def check_type(name: str, value: object, expected: object) -> None:
    """Raise ValueError unless the value has the expected type. Numbers must be finite, and True is
    not a number."""
    good = type(value) is expected
    if expected is float:
        good = type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    if not good:
        raise ValueError(f"{name} is not of the type {getattr(expected, '__name__', expected)}")


class ConfigurationFolder:
    """The folder with agent.json, the journal and the lock. No other user may write there, since a
    user who can write agent.json commands this computer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = path / "commands.journal"
        self._file = path / "agent.json"
        self._lock: IO[bytes] | None = None

    def create(self) -> None:
        """Create the folder. Raise ConfigurationError, also if another user could write there."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            refuse_foreign(self.path, self.path.stat())
        except OSError as error:
            raise ConfigurationError(f"cannot use {self.path}: {error}") from error

    def lock(self) -> None:
        """Hold the folder until this process ends. Raise ConfigurationError if another one does."""
        file = self.path / "agent.lock"
        try:
            # Its content is not trusted, so its mode may be corrected.
            stream = open_own(file, "r+b", os.O_RDWR | os.O_CREAT, protect=True)
        except (OSError, DamagedFileError) as error:
            raise ConfigurationError(f"cannot use {file}: {error}") from error
        try:
            lock_file(stream)
        except OSError as error:
            stream.seek(0)
            pid = stream.read(20).decode("ascii", "replace").strip() or "unknown"
            stream.close()
            raise ConfigurationError(
                f"another agent (process {pid}) runs on {self.path}; "
                "a second one needs a --config-dir of its own"
            ) from error
        self._lock = stream
        # For the process that finds it locked; a full disk must not keep it from starting.
        with contextlib.suppress(OSError):
            stream.truncate(0)
            stream.seek(0)
            stream.write(f"{os.getpid()}\n".encode())

    def release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def load(self) -> Configuration | None:
        """Return the configuration, or None if there is none; set a damaged one aside. Raise
        ConfigurationError."""
        try:
            with open_own(self._file, "rb", os.O_RDONLY, MAX_CONFIGURATION_BYTES) as stream:
                return Configuration.from_json(stream.read(MAX_CONFIGURATION_BYTES))
        except FileNotFoundError:
            return None
        except DamagedFileError as error:
            set_aside(self._file, error)
            return None
        except OSError as error:
            raise ConfigurationError(f"cannot read {self._file}: {error}") from error

    def forget_journal(self) -> None:
        """Remove the journal. Raise ConfigurationError if that fails."""
        try:
            remove(self.journal)
        except OSError as error:
            raise ConfigurationError(f"cannot remove {self.journal}: {error}") from error

    def save(self, configuration: Configuration) -> None:
        """Write the whole configuration or nothing, even if the power fails. Raise
        ConfigurationError."""
        content = json.dumps(dataclasses.asdict(configuration), indent=2)
        try:
            write_atomically(self._file, [content.encode()])
        except (OSError, DamagedFileError) as error:
            raise ConfigurationError(f"cannot write {self._file}: {error}") from error


# What systems say of folders, sockets, FIFOs, and files that may not be read.
NO_FILE = (errno.EACCES, errno.EPERM, errno.ENXIO, errno.EISDIR, errno.EOPNOTSUPP)


def open_own(
    file: Path, mode: str, flags: int, largest: float = math.inf, *, protect: bool = False
) -> IO[bytes]:
    """Open a file that no other user can write, without following a symbolic link and without
    waiting. With `protect`, first take away the access that others had.

    Raise FileNotFoundError, DamagedFileError if it is not a file or larger than `largest`,
    ConfigurationError for a link or a file of another user, OSError.
    """
    # Windows knows neither links that anybody may make nor FIFOs there.
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    flags |= getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(file, flags, 0o600)
    except OSError as error:
        if file.is_symlink():
            raise ConfigurationError(
                f"{file} is a symbolic link, which the agent does not follow; remove it"
            ) from error
        if error.errno in NO_FILE:
            raise DamagedFileError(f"cannot be opened: {error.strerror}") from error
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DamagedFileError("is not a file")
        if protect and os.name == "posix" and status.st_uid == os.geteuid():
            os.fchmod(descriptor, 0o600)
            status = os.fstat(descriptor)
        refuse_foreign(file, status)
        if status.st_size > largest:
            raise DamagedFileError(f"is larger than {largest} bytes")
        return os.fdopen(descriptor, mode, buffering=-1 if mode in ("rb", "wb") else 0)
    except (AgentError, OSError):
        os.close(descriptor)
        raise


def refuse_foreign(path: Path, status: os.stat_result) -> None:
    """Raise ConfigurationError for a file or folder that another user owns or may write."""
    if os.name != "posix":
        return
    if status.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{path} belongs to the user {status.st_uid}, and this agent runs as {os.geteuid()}: "
            "that user could command this computer. Change its owner, or use another --config-dir"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigurationError(
            f"{path} can be written by other users, who could command this computer; "
            f"chmod go-w {path}"
        )


def set_aside(path: Path, reason: Exception) -> None:
    """Keep a damaged file under another name. Raise ConfigurationError if that fails."""
    kept = path.with_name(f"{path.name}.damaged-{uuid.uuid4().hex[:8]}")
    try:
        path.rename(kept)
    except OSError as error:
        raise ConfigurationError(f"{path} {reason}; nor can it be renamed: {error}") from error
    log.error("%s %s; it is kept as %s, and the agent starts afresh", path, reason, kept.name)


def remove(path: Path) -> None:
    """Remove a file or link; set a folder aside. Raise OSError, ConfigurationError."""
    set_folder_aside(path)
    path.unlink(missing_ok=True)


def set_folder_aside(path: Path) -> None:
    """Keep a folder that is in the place of a file under another name. Raise ConfigurationError."""
    if path.is_dir() and not path.is_symlink():
        set_aside(path, DamagedFileError("is a folder"))


def lock_file(stream: IO[bytes]) -> None:
    """Take an exclusive lock, which the system releases when this process dies. Raise OSError."""
    if sys.platform == "win32":
        import msvcrt

        # Far behind the content, since a locked byte cannot be read.
        os.lseek(stream.fileno(), 1 << 30, os.SEEK_SET)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_atomically(path: Path, parts: Sequence[bytes]) -> None:
    """Replace a file, readable by its owner only. Raise OSError, DamagedFileError,
    ConfigurationError."""
    new = path.with_name(path.name + ".new")
    remove(new)
    set_folder_aside(path)
    try:
        with open_own(new, "wb", os.O_WRONLY | os.O_CREAT | os.O_EXCL) as stream:
            stream.writelines(parts)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(path)
    except OSError:
        # A full disk needs the space.
        new.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def default_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "Wegweiser" / "agent"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "wegweiser-agent"
    try:
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    except RuntimeError:
        # The user has no home.
        base = "/var/lib"
    return Path(base) / "wegweiser-agent"


class Key:
    """The NKey pair by which the server and the broker recognise this device."""

    def __init__(self, seed: str) -> None:
        """Load the key pair from its seed. Raise ConfigurationError if it is damaged."""
        try:
            self._pair = nkeys.from_seed(bytearray(seed.encode()))
            self.public: str = self._pair.public_key.decode()
        except (nkeys.NkeysError, ValueError, IndexError) as error:
            raise ConfigurationError("the private key in the configuration is damaged") from error

    @staticmethod
    def new_seed() -> str:
        seed: bytes = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
        return seed.decode()

    def sign(self, data: str) -> bytes:
        """Return the raw Ed25519 signature."""
        signature: bytes = self._pair.sign(data.encode())
        return signature


def jwt_lifetime(jwt: str) -> float | None:
    """Return the seconds from issue to expiry, or None if it does not expire. Raise
    ServerUnavailableError."""
    try:
        payload = jwt.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        if not claims.get("exp"):
            return None
        lifetime = float(claims["exp"] - claims["iat"])
        if not 0 < lifetime < math.inf:
            raise ValueError("it expires before it was issued")
    except (
        *(IndexError, ValueError, AttributeError, KeyError, TypeError, binascii.Error),
        *(RecursionError, OverflowError),
    ) as error:
        raise ServerUnavailableError("the server's answer holds no JWT") from error
    return lifetime


def later_timestamp(before: int) -> int:
    """Return this second, or the one after `before`, since each timestamp may be signed only once.
    A `before` that is too far from now was never accepted by the server, so it is ignored."""
    now = int(time.time())
    return max(now, before + 1) if before < now + MAX_PROOF_LEAD else now


def text_of(answer: JsonObject, name: str) -> str:
    """Return a text from the server's answer. Raise ServerUnavailableError if it is missing."""
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise ServerUnavailableError(f"the server's answer has no {name}")
    return value


def object_of(answer: JsonObject, name: str) -> JsonObject:
    """Return an object from the server's answer. Raise ServerUnavailableError if it is missing."""
    value = answer.get(name)
    if not isinstance(value, dict):
        raise ServerUnavailableError(f"the server's answer has no {name}")
    return value


def uuid_of(answer: JsonObject, name: str) -> str:
    """Return a UUID from the server's answer in its usual spelling, since it becomes part of
    subjects. Raise ServerUnavailableError if it is not valid."""
    try:
        return str(uuid.UUID(text_of(answer, name)))
    except ValueError as error:
        raise ServerUnavailableError(
            f"{name} in the server's answer is not a valid UUID"
        ) from error


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuse redirects: urllib would send the device token along to wherever they lead."""

    def redirect_request(self, *_: object) -> None:
        return None


class ServerApi:
    """The server's HTTP endpoints for agents. The calls block.

    All raise RequestRefusedError, or ServerUnavailableError if trying again may help.
    """

    def __init__(self, url: str, trust: ssl.SSLContext) -> None:
        self._url = url.rstrip("/") + "/api/nats"
        https = urllib.request.HTTPSHandler(context=trust)
        self._opener = urllib.request.build_opener(NoRedirects(), https)

    def register(self, body: JsonObject) -> JsonObject:
        return self._call("/agent/register", data=to_json(body))

    def credentials(self, device_uuid: str, device_token: str) -> JsonObject:
        return self._call(f"/device/{device_uuid}/credentials", token=device_token)

    def upgrade(self, device_uuid: str, device_token: str, body: JsonObject) -> JsonObject:
        path = f"/agent/{device_uuid}/upgrade"
        return self._call(path, data=to_json(body), token=device_token)

    def _call(self, path: str, *, data: bytes | None = None, token: str = "") -> JsonObject:
        headers = {"Accept": "application/json", "User-Agent": f"wegweiser-agent/{VERSION}"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        if token:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self._url + path, data=data, headers=headers)  # noqa: S310
        try:
            with self._opener.open(request, timeout=HTTP_SECONDS) as answer:
                content = json.loads(answer.read(MAX_HTTP_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error) from error
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            reason = getattr(error, "reason", error)
            raise ServerUnavailableError(
                f"no answer from {self._url}: {explained(str(reason))}"
            ) from error
        if not isinstance(content, dict):
            raise ServerUnavailableError(f"{self._url} does not answer like a Wegweiser server")
        return content

    def _refusal(self, error: urllib.error.HTTPError) -> AgentError:
        """Return the reason from problem details (RFC 9457), if the server gave them."""
        reason = f"{error.code} {error.reason}"
        if error.code < 400:
            where = error.headers.get("Location", "elsewhere")
            return RequestRefusedError(error.code, f"{self._url} redirects to {where}; use that")
        with contextlib.suppress(OSError, HTTPException, ValueError, RecursionError):
            problem = json.loads(error.read(MAX_HTTP_BYTES))
            if isinstance(problem, dict) and (
                detail := problem.get("detail") or problem.get("title")
            ):
                reason = f"{detail} ({error.code})"
        if error.code >= 500 or error.code in (408, 425, 429):
            return ServerUnavailableError(f"{self._url} cannot answer now: {reason}")
        return RequestRefusedError(error.code, reason)


class Enrolment:
    """Turn an enrolment key, or another system's device, into a device of ours."""

    def __init__(
        self, folder: ConfigurationFolder, configuration: Configuration, threads: Threads
    ) -> None:
        self._folder = folder
        self._configuration = configuration
        self._threads = threads
        self._key = Key(configuration.nkey_seed)
        self._api = ServerApi(configuration.server_url, configuration.trust())

    async def run(self, enrollment_key: str) -> None:
        """Try until the server answers. Raise RequestRefusedError or ConfigurationError."""
        information = await self._threads.run(system_info)

        async def register() -> JsonObject:
            self._configuration.proved_at = later_timestamp(self._configuration.proved_at)
            await self._threads.run(self._folder.save, self._configuration)
            body = self._request(enrollment_key) | {"hardwareinfo": information}
            return await self._threads.run(self._api.register, body)

        answer = await self._answered(register)
        self._take(answer, uuid_of(answer, "deviceuuid"), text_of(answer, "device_token"))
        await self._threads.run(self._folder.save, self._configuration)
        log.info("enrolled as device %s", self._configuration.device_uuid)

    async def take_over(self, device: str, token: str) -> None:
        """Become a device that another system has registered, which our key is new to. Raise what
        `run` raises."""
        body = {"nkey_public": self._key.public}

        async def upgrade() -> JsonObject:
            return await self._threads.run(self._api.upgrade, device, token, body)

        answer = await self._answered(upgrade)
        self._take(answer, uuid_of(answer, "device_uuid"), token)
        await self._threads.run(self._folder.save, self._configuration)
        log.info("moved over as device %s", self._configuration.device_uuid)

    async def _answered(self, ask: Callable[[], Awaitable[JsonObject]]) -> JsonObject:
        backoff = Backoff(1, 60)
        while True:
            try:
                return await ask()
            except ServerUnavailableError as error:
                pause = backoff.next()
                log.warning("not enrolled yet: %s; trying again in %.0f s", error, pause)
                await asyncio.sleep(pause)

    def _request(self, enrollment_key: str) -> JsonObject:
        """Return the request; its signature proves that we hold the private half, if the server
        knows the key."""
        group, timestamp = self._configuration.group_uuid, self._configuration.proved_at
        signature = self._key.sign(f"enroll:{group}:{self._key.public}:{timestamp}")
        return {
            "groupuuid": group,
            "devicename": self._configuration.device_name,
            "enrollment_key": enrollment_key,
            "nkey_public": self._key.public,
            "timestamp": timestamp,
            "signature": base64.urlsafe_b64encode(signature).decode().rstrip("="),
        }

    def _take(self, answer: JsonObject, device: str, token: str) -> None:
        configuration = self._configuration
        tenant = uuid_of(answer, "tenant_uuid")
        configuration.take_credentials(object_of(answer, "nats_credentials"))
        configuration.device_uuid, configuration.tenant_uuid = device, tenant
        configuration.device_token = token


class CredentialKeeper:
    """Keep the JWT fresh: fetch another at half of its life, and whenever asked to."""

    def __init__(
        self,
        folder: ConfigurationFolder,
        configuration: Configuration,
        threads: Threads,
        on_change: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._configuration = configuration
        self._threads = threads
        self._on_change = on_change
        self._api = ServerApi(configuration.server_url, configuration.trust())
        self._wanted = asyncio.Event()
        # The tasks that wait for the next answer: empty when there is a fresh JWT, else why not.
        self._waiting: list[asyncio.Future[str]] = []
        self._lifetime: float | None
        try:
            self._lifetime = jwt_lifetime(configuration.jwt)
        except ServerUnavailableError:
            # The stored one cannot be used; as with an expired one, another is fetched.
            self._lifetime = 0.0

    def want(self) -> None:
        """Fetch a fresh JWT and the broker's address soon."""
        self._wanted.set()

    async def renew(self) -> None:
        """Return once there is a fresh JWT. Raise CommandError with the server's reason, or if
        there is no answer within RENEWAL_SECONDS."""
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self.want()
        try:
            async with asyncio.timeout(RENEWAL_SECONDS):
                refusal = await answer
        except TimeoutError as error:
            raise CommandError("the server gave no fresh JWT in time") from error
        if refusal:
            raise CommandError(f"the server refuses a fresh JWT: {refusal}")

    @property
    def expired(self) -> bool:
        return self._lifetime is not None and self._age() >= self._lifetime

    async def run(self) -> None:
        while True:
            if not await set_within(self._wanted, self._pause()) and self._pause() > 0:
                continue
            await self._fetch()
            self._wanted.clear()

    def _age(self) -> float:
        return time.time() - self._configuration.jwt_received_at

    def _pause(self) -> float:
        """Return how long to wait; briefly, as the loop's clock stops while a computer sleeps."""
        if self._lifetime is None:
            return RENEWAL_CHECK_SECONDS
        return min(max(self._lifetime / 2 - self._age(), 0), RENEWAL_CHECK_SECONDS)

    async def _fetch(self) -> None:
        configuration = self._configuration
        unavailable, refused = Backoff(1, 60), Backoff(15, 300)
        while True:
            try:
                answer = await self._threads.run(
                    self._api.credentials, configuration.device_uuid, configuration.device_token
                )
                configuration.take_credentials(object_of(answer, "credentials"))
                break
            except RequestRefusedError as error:
                self._answer(str(error))
                pause = refused.next()
                log.warning(
                    "the server refuses this device a fresh JWT: %s; an operator may restore it, "
                    "so asking again in %.0f s",
                    error,
                    pause,
                )
            except ServerUnavailableError as error:
                pause = unavailable.next()
                log.warning("no fresh JWT: %s; asking again in %.0f s", error, pause)
            await asyncio.sleep(pause)
        self._lifetime = jwt_lifetime(configuration.jwt)
        self._on_change()
        try:
            await self._threads.run(self._folder.save, configuration)
        except ConfigurationError as error:
            log.error("the fresh JWT is used but not kept: %s", error)
        log.info("received a fresh JWT")
        self._answer("")

    def _answer(self, refusal: str) -> None:
        for answer in self._waiting:
            if not answer.done():
                answer.set_result(refusal)
        self._waiting.clear()


class Connection:
    """One connection to the broker, from login to loss.

    nats-py's own reconnecting is off: it does not report that a JWT was refused, has no jitter, and
    gives up for good after some errors. So each connection is a new client.
    """

    # nats-py has no type of error for these; the texts are the server's.
    REFUSALS = ("authorization violation", "authentication expired", "authentication revoked")

    def __init__(self, jwt: str, on_loss: Callable[[], None]) -> None:
        self.jwt = jwt
        self._client = Client()
        self._on_loss = on_loss
        self._opened = False
        self._closed = asyncio.Event()
        self._last_error: Exception | None = None
        self._unconfirmed = 0
        self._confirmed = asyncio.Event()
        self._confirmed.set()

    async def open(
        self, servers: list[str], trust: ssl.SSLContext, key: Key, device_uuid: str
    ) -> None:
        """Connect to servers of one scheme. Raise LoginRefusedError or BrokerUnavailableError."""

        def sign(nonce: str) -> bytes:
            return base64.b64encode(key.sign(nonce))

        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._client.connect(
                    servers,
                    name=f"wegweiser-agent {device_uuid}",
                    user_jwt_cb=self.jwt.encode,
                    signature_cb=sign,
                    inbox_prefix=f"_INBOX_{device_uuid}",
                    tls=trust,
                    # Otherwise nats-py believes anybody who says in the clear that there is no TLS
                    # here; and a firewall may pass nothing but TLS.
                    tls_handshake_first=servers[0].startswith("tls://"),
                    error_cb=self._note_error,
                    closed_cb=self._note_close,
                    allow_reconnect=False,
                    # For nats-py 0 means for ever.
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0.1,  # type: ignore[arg-type]
                    connect_timeout=5,
                    # A link that went silent is noticed within 45 s.
                    ping_interval=15,
                    max_outstanding_pings=2,
                    drain_timeout=5,
                    dont_randomize=True,
                )
        except (nats.errors.Error, OSError, ValueError) as error:
            await self.close()
            reason = str(self._last_error or error) or type(error).__name__
            if any(text in reason.lower() for text in self.REFUSALS):
                raise LoginRefusedError(reason) from error
            raise BrokerUnavailableError(explained(reason)) from error
        self._opened = True

    @property
    def lost(self) -> bool:
        # `closed_cb` comes only after the socket is closed, which may hang on a dead link.
        return self._closed.is_set() or not self._client.is_connected

    @property
    def reason(self) -> str:
        return str(self._last_error or self._client.last_error or "closed")

    @property
    def discovered_servers(self) -> list[str]:
        return [server.geturl() for server in self._client.discovered_servers]

    async def subscribe(self, subject: str, receive: Receive) -> None:
        """Return once the broker has accepted the subscription. Raise BrokerUnavailableError."""

        async def on_message(message: Msg) -> None:
            await receive(message.data, (message.headers or {}).get(CORRELATION_HEADER, ""))

        try:
            await self._client.subscribe(subject, cb=on_message)
            await self._client.flush(5)
        except (nats.errors.Error, OSError) as error:
            raise BrokerUnavailableError(str(error)) from error

    async def publish(self, subject: str, payload: bytes) -> None:
        """Publish at most once. Raise BrokerUnavailableError."""
        try:
            await self._client.publish(subject, payload)
        except (nats.errors.Error, OSError) as error:
            raise BrokerUnavailableError(str(error)) from error

    async def publish_stored(self, subject: str, payload: bytes, correlation_id: str) -> None:
        """Return once the platform has stored it. Raise NotStoredError or MessageTooLargeError."""
        headers = {CORRELATION_HEADER: correlation_id} if correlation_id else None
        request = asyncio.ensure_future(
            self._client.request(subject, payload, timeout=ACK_SECONDS, headers=headers)
        )
        closed = asyncio.ensure_future(self._closed.wait())
        waiting: set[asyncio.Future[Any]] = {request, closed}
        self._unconfirmed += 1
        self._confirmed.clear()
        try:
            await asyncio.wait(
                waiting, timeout=ACK_SECONDS + 1, return_when=asyncio.FIRST_COMPLETED
            )
            if not request.done():
                if "maximum payload" in self.reason.lower():
                    raise MessageTooLargeError("larger than the broker allows")
                raise NotStoredError(f"the connection was lost: {self.reason}")
            check_ack(request.result().data)
        except nats.errors.MaxPayloadError as error:
            raise MessageTooLargeError("larger than the broker allows") from error
        except (nats.errors.Error, OSError) as error:
            raise NotStoredError(str(error)) from error
        finally:
            for future in waiting:
                future.cancel()
            self._unconfirmed -= 1
            if not self._unconfirmed:
                self._confirmed.set()

    async def retire(self) -> None:
        """Make way for a successor once everything sent here is confirmed."""
        await set_within(self._confirmed, ACK_SECONDS)
        await self.drain(10)

    async def drain(self, seconds: float) -> None:
        """Receive what the broker has already sent, then disconnect."""
        with contextlib.suppress(nats.errors.Error, OSError):
            async with asyncio.timeout(seconds):
                await self._client.drain()
        await self.close()

    async def close(self) -> None:
        # nats-py asserts that `connect` got as far as a socket.
        with contextlib.suppress(nats.errors.Error, OSError, AssertionError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._client.close()

    async def _note_error(self, error: Exception) -> None:
        self._last_error = error
        # While it is not connected yet, `open` reports it.
        log.log(logging.WARNING if self._opened else logging.DEBUG, "nats: %s", error)

    async def _note_close(self) -> None:
        self._closed.set()
        if self._opened:
            self._on_loss()


def check_ack(data: bytes) -> None:
    """Check a PubAck. Raise NotStoredError unless one of the platform's streams has stored the
    message, or MessageTooLargeError if none ever will."""
    try:
        ack = json.loads(data)
        error = ack.get("error")
        stream = ack.get("stream")
    except (ValueError, AttributeError, RecursionError) as problem:
        raise NotStoredError("the broker's confirmation cannot be read") from problem
    if isinstance(error, dict) and error.get("err_code") == TOO_LARGE_ERROR:
        raise MessageTooLargeError("larger than the platform takes")
    if error:
        raise NotStoredError(f"the broker does not store it: {error}")
    if stream not in CONFIRMING_STREAMS:
        raise NotStoredError(f"stored only in {stream}")


class Link:
    """Keep a connection to the broker, replacing it whenever it is lost or the JWT changes.

    A fresh JWT is put into use by a second connection, which subscribes before the first one
    drains: a command that comes in between arrives at least once.
    """

    def __init__(self, configuration: Configuration, on_open: Callable[[], None]) -> None:
        self._configuration = configuration
        self._on_open = on_open
        self._key = Key(configuration.nkey_seed)
        self._connection: Connection | None = None
        self._trust = configuration.trust()
        self._discovered: list[str] = []
        # Which kind of address is next, where there are several.
        self._turn = 0
        self.opened = asyncio.Event()
        # Set when the connection is lost or the JWT has changed.
        self._news = asyncio.Event()
        self._subject = f"tenant.{configuration.tenant_uuid}.device.{configuration.device_uuid}"

    def wake(self) -> None:
        self._news.set()

    async def run(self, keeper: CredentialKeeper, receive: Receive) -> None:
        backoff = Backoff(1, 30)
        failures = 0
        while True:
            if keeper.expired:
                await self._fresh_jwt(keeper)
            try:
                connection = await self._open(receive)
            except LoginRefusedError as error:
                log.warning("the broker refuses our login: %s", error)
                await asyncio.sleep(backoff.next())
                await self._fresh_jwt(keeper)
            except BrokerUnavailableError as error:
                pause = backoff.next()
                log.warning("no connection to the broker: %s; again in %.1f s", error, pause)
                failures += 1
                self._turn += 1
                if failures % 10 == 2:
                    # The broker may have moved; the server knows where to.
                    keeper.want()
                await set_within(self._news, pause)
            else:
                opened = time.monotonic()
                failures = 0
                await self._hold(connection, receive)
                if time.monotonic() - opened > 30:
                    backoff.reset()
                await asyncio.sleep(backoff.next())

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.drain(STOP_SECONDS)

    async def in_use(self, jwt: str) -> bool:
        """Return whether a connection with this JWT is open within RENEWAL_SECONDS."""
        deadline = time.monotonic() + RENEWAL_SECONDS
        while self._connection is None or self._connection.jwt != jwt:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(0.1)
        return True

    async def publish_stored(self, kind: str, payload: bytes, correlation_id: str = "") -> None:
        """Return once the platform has stored it. Raise NotStoredError or MessageTooLargeError."""
        if self._connection is None:
            raise NotStoredError("there is no connection to the broker")
        await self._connection.publish_stored(f"{self._subject}.{kind}", payload, correlation_id)

    async def publish_metric(self, metric_type: str, payload: bytes) -> None:
        """Publish at most once. Raise BrokerUnavailableError."""
        if self._connection is None:
            raise BrokerUnavailableError("there is no connection to the broker")
        subject = f"demo.system.{self._configuration.device_uuid}.{metric_type}"
        await self._connection.publish(subject, payload)

    async def _fresh_jwt(self, keeper: CredentialKeeper) -> None:
        """Ask for a fresh JWT, and wait a while for it."""
        before = self._configuration.jwt
        keeper.want()
        deadline = time.monotonic() + HTTP_SECONDS
        while self._configuration.jwt == before and time.monotonic() < deadline:
            self._news.clear()
            await set_within(self._news, 1)

    async def _open(self, receive: Receive) -> Connection:
        """Open a connection. Raise LoginRefusedError or BrokerUnavailableError."""
        self._news.clear()
        connection = Connection(self._configuration.jwt, self.wake)
        await connection.open(
            self._servers(), self._trust, self._key, self._configuration.device_uuid
        )
        try:
            await connection.subscribe(f"{self._subject}.command", receive)
        except BrokerUnavailableError:
            await connection.close()
            raise
        self._discovered = connection.discovered_servers
        self._connection = connection
        self.opened.set()
        self._on_open()
        log.info("connected to the broker")
        return connection

    async def _hold(self, connection: Connection, receive: Receive) -> None:
        """Wait until the connection, or the last of its successors, is lost."""
        backoff = Backoff(1, 60)
        next_attempt = 0.0
        while not connection.lost:
            if connection.jwt != self._configuration.jwt and time.monotonic() >= next_attempt:
                try:
                    successor = await self._open(receive)
                except (LoginRefusedError, BrokerUnavailableError) as error:
                    log.warning("the fresh JWT cannot be used yet: %s", error)
                    next_attempt = time.monotonic() + backoff.next()
                else:
                    await connection.retire()
                    connection = successor
                    # While there were two, nobody could tell which one a heartbeat came over.
                    self._on_open()
            await set_within(self._news, 1)
            self._news.clear()
        self._connection = None
        self.opened.clear()
        log.warning("the connection to the broker is lost: %s", connection.reason)
        await connection.close()

    def _servers(self) -> list[str]:
        """Return the configured servers of one scheme, since nats-py cannot mix schemes; the
        schemes take turns. Add those of the cluster that the last server named. Raise
        BrokerUnavailableError."""
        configured = [url.strip() for url in self._configuration.nats_url.split(",")]
        objections = {url: objection(url, self._configuration.insecure) for url in configured}
        usable = [url for url in configured if not objections[url]]
        if not usable:
            raise BrokerUnavailableError("; ".join(objections.values()))
        schemes = list(dict.fromkeys(url.partition(":")[0] for url in usable))
        scheme = schemes[self._turn % len(schemes)]
        servers = [url for url in usable if url.startswith(f"{scheme}:")]
        random.shuffle(servers)
        # Found by address, a server cannot prove the name in its certificate.
        discovered = [
            url
            for url in self._discovered
            if scheme == "nats"
            and url.startswith("nats://")
            and not objection(url, self._configuration.insecure)
        ]
        return servers + [url for url in discovered if url not in servers]


class Journal:
    """The commands this agent was given, and how far each has come: a file of JSON lines, of
    which the last one for each id counts.

    received      accepted; it will be run, after a restart if need be
    started       it may have had effects, so it is never run again
    finished      the answer is there but not known to be stored
    acknowledged  the platform has the answer

    What could not be written, on a full disk say, is written with the next line that can be.
    """

    STATES = ("received", "started", "finished", "acknowledged")
    # What a line has beside id and state.
    CONTENTS: ClassVar = {"received": "command", "finished": "answer"}
    REMEMBERED = 10_000
    MAX_OPEN = 1_000
    MAX_OPEN_BYTES = 64 * 1024 * 1024
    COMPACT_BYTES = 32 * 1024 * 1024

    def __init__(self, path: Path) -> None:
        self._path = path
        # One thread, so that what is written keeps its order.
        self._threads = Threads(1, "journal")
        self._states: dict[str, str] = {}
        self._received: dict[str, JsonObject] = {}
        # Used as a set that keeps its order.
        self._started: dict[str, None] = {}
        self._finished: dict[str, bytes] = {}
        # Of the commands whose answer is not acknowledged.
        self._correlation_ids: dict[str, str] = {}
        # Of all that is received or finished.
        self._open_bytes = 0
        self._appended_bytes = 0
        # Why the file is behind the memory; empty if it is not.
        self.problem = ""

    async def load(self) -> None:
        """Read the journal; skip damaged lines, or set the file aside. Raise ConfigurationError."""
        await self._threads.run(self._load)
        try:
            await self._compact()
        except OSError as error:
            # A computer with a full disk is one to keep watching.
            log.error("no command is taken while the journal cannot be written: %s", error)

    def state(self, command_id: str) -> str | None:
        return self._states.get(command_id)

    def correlation_id(self, command_id: str) -> str:
        """Return the id of the request that issued a command; empty if it is not known, or no
        longer."""
        return self._correlation_ids.get(command_id, "")

    @property
    def received(self) -> list[tuple[str, JsonObject]]:
        """Return the commands not yet started, oldest first."""
        return list(self._received.items())

    @property
    def started(self) -> list[str]:
        return list(self._started)

    @property
    def finished(self) -> list[tuple[str, bytes]]:
        """Return the answers not yet acknowledged, oldest first."""
        return list(self._finished.items())

    @property
    def full(self) -> bool:
        too_many = len(self._received) + len(self._finished) >= self.MAX_OPEN
        return too_many or self._open_bytes >= self.MAX_OPEN_BYTES

    async def receive(self, command_id: str, command: JsonObject, correlation_id: str = "") -> None:
        """Record that a command was received. Raise OSError if it could not be recorded."""
        self._set(command_id, "received", command=command)
        self._correlate(command_id, correlation_id)
        line = to_json(self._line(command_id, "received") | {"command": command})
        try:
            await self._append(line)
        except OSError:
            self._close(command_id)
            self._correlation_ids.pop(command_id, None)
            del self._states[command_id]
            raise

    async def start(self, command_id: str) -> None:
        """Record that a command is started. Raise OSError; then the command must not be run."""
        self._set(command_id, "started")
        await self._append(to_json({"id": command_id, "state": "started"}))

    async def finish(self, command_id: str, answer: bytes) -> None:
        """Record the answer, a JSON object. Raise OSError if it is only in memory."""
        self._set(command_id, "finished", answer=answer)
        await self._append(self._finished_line(command_id, answer))

    async def acknowledge(self, command_id: str) -> None:
        """Record that the answer is stored. Raise OSError if that is only in memory."""
        self._set(command_id, "acknowledged")
        self._forget_oldest()
        # If a crash loses this line, the answer is sent once more; so it needs no sync at once.
        await self._append(to_json({"id": command_id, "state": "acknowledged"}), sync=False)
        if self._appended_bytes > self.COMPACT_BYTES:
            await self._compact()

    def _set(
        self, command_id: str, state: str, *, command: JsonObject | None = None, answer: bytes = b""
    ) -> None:
        self._close(command_id)
        self._states[command_id] = state
        if state == "received":
            self._received[command_id] = command or {}
            self._open_bytes += len(to_json(self._received[command_id]))
        if state == "started":
            self._started[command_id] = None
        if state == "finished":
            self._finished[command_id] = answer
            self._open_bytes += len(answer)
        if state == "acknowledged":
            self._correlation_ids.pop(command_id, None)

    def _correlate(self, command_id: str, correlation_id: object) -> None:
        if isinstance(correlation_id, str) and CORRELATION_ID.fullmatch(correlation_id):
            self._correlation_ids[command_id] = correlation_id

    def _close(self, command_id: str) -> None:
        if (command := self._received.pop(command_id, None)) is not None:
            self._open_bytes -= len(to_json(command))
        self._started.pop(command_id, None)
        self._open_bytes -= len(self._finished.pop(command_id, b""))

    def _forget_oldest(self) -> None:
        excess = len(self._states) - self.REMEMBERED
        if excess > 0:
            done = [key for key, state in self._states.items() if state == "acknowledged"]
            for command_id in done[:excess]:
                del self._states[command_id]

    def _line(self, command_id: str, state: str) -> JsonObject:
        """Return what a line has whatever its state."""
        correlation_id = self.correlation_id(command_id)
        known = {"correlation_id": correlation_id} if correlation_id else {}
        return {"id": command_id, "state": state} | known

    def _finished_line(self, command_id: str, answer: bytes) -> bytes:
        return b'%s,"answer":%s}' % (to_json(self._line(command_id, "finished"))[:-1], answer)

    async def _append(self, line: bytes, *, sync: bool = True) -> None:
        if self.problem:
            await self._compact()
            return
        self._appended_bytes += len(line)
        await self._to_disk(self._write, line, sync)

    def _write(self, line: bytes, sync: bool) -> None:
        with open_own(self._path, "ab", os.O_WRONLY | os.O_APPEND | os.O_CREAT) as stream:
            size = stream.tell()
            try:
                text = line + b"\n"
                while text:
                    text = text[stream.write(text) :]
                if sync:
                    os.fsync(stream.fileno())
            except OSError:
                # Half a line, or that of a command that is not accepted after all.
                with contextlib.suppress(OSError):
                    stream.truncate(size)
                raise

    async def _compact(self) -> None:
        lines = [
            to_json(self._line(command_id, state) | self._command_of(command_id)) + b"\n"
            for command_id, state in self._states.items()
            if state != "finished"
        ]
        # Last and in their own order, which is the order in which they were finished.
        lines += [self._finished_line(*item) + b"\n" for item in self._finished.items()]
        self._appended_bytes = 0
        await self._to_disk(write_atomically, self._path, lines)
        self.problem = ""

    async def _to_disk(self, write: Callable[..., None], *arguments: object) -> None:
        """Write the lines. Raise OSError; then the file is behind until the whole of it is written
        again."""
        try:
            await self._threads.run(write, *arguments)
        except (OSError, AgentError) as error:
            self.problem = str(error)
            raise OSError(self.problem) from error

    def _command_of(self, command_id: str) -> JsonObject:
        command = self._received.get(command_id)
        return {} if command is None else {"command": command}

    def _load(self) -> None:
        """Read the file. Raise ConfigurationError."""
        damaged = 0
        try:
            with open_own(self._path, "rb", os.O_RDONLY, MAX_JOURNAL_BYTES) as stream:
                for line in lines_of(stream):
                    damaged += not self._replay(line)
                    if len(self._states) > 2 * self.REMEMBERED:
                        self._forget_oldest()
        except FileNotFoundError:
            return
        except DamagedFileError as error:
            set_aside(self._path, error)
        except OSError as error:
            raise ConfigurationError(f"cannot use {self._path}: {error}") from error
        self._forget_oldest()
        if damaged:
            log.warning("%d damaged lines in %s are passed over", damaged, self._path)

    def _replay(self, line: bytes) -> bool:
        """Apply a line; return whether it is one that the agent writes."""
        try:
            entry = json.loads(line)
            command_id, state = entry["id"], entry["state"]
            if not is_command_id(command_id) or state not in self.STATES:
                return False
            content = entry[self.CONTENTS[state]] if state in self.CONTENTS else {}
            if not isinstance(content, dict) or (content and nested_too_deep(content)):
                return False
        except (ValueError, KeyError, TypeError, RecursionError):
            return False
        if state != "acknowledged" and self._overfull:
            # More than the agent ever accepts: it is neither run nor answered nor accepted again.
            self._set(command_id, "acknowledged")
            return False
        answer = to_json(content) if state == "finished" else b""
        self._set(command_id, state, command=content, answer=answer)
        if state != "acknowledged":
            self._correlate(command_id, entry.get("correlation_id"))
        return True

    @property
    def _overfull(self) -> bool:
        count = len(self._received) + len(self._started) + len(self._finished)
        return count >= 2 * self.MAX_OPEN or self._open_bytes >= 2 * self.MAX_OPEN_BYTES


def lines_of(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines that are not empty; of a line that is too long only its beginning, which is
    not JSON."""
    whole = True
    while line := stream.readline(MAX_LINE_BYTES):
        if whole and line.strip():
            yield line
        whole = line.endswith(b"\n")


class Outbox:
    """Send receipts and answers in order, each until the platform has stored it.

    Answers are in the journal as well, so they survive a restart; receipts need not.
    """

    def __init__(self, link: Link, journal: Journal) -> None:
        self._link = link
        self._journal = journal
        # Command id, message, and whether it is the answer.
        self._queue: deque[tuple[str, bytes, bool]] = deque()
        self._filled = asyncio.Event()
        self._retry = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._waiters: dict[str, asyncio.Event] = {}

    def load(self) -> None:
        for command_id, answer in self._journal.finished:
            self._add(command_id, answer, is_answer=True)

    def wake(self) -> None:
        """Try again now."""
        self._retry.set()

    def send_receipt(self, command_id: str) -> None:
        if not any(item[0] == command_id and not item[2] for item in self._queue):
            receipt = response(command_id, {"status": "received"})
            self._add(command_id, receipt, is_answer=False)
        self.wake()

    async def send_answer(self, command_id: str, result: JsonObject) -> None:
        answer = response(command_id, result)
        if len(answer) > MAX_RESPONSE_BYTES:
            answer = too_large(command_id, len(answer))
        try:
            await self._journal.finish(command_id, answer)
        except OSError as error:
            log.error("an answer is not kept on disk: %s", error)
        self._add(command_id, answer, is_answer=True)

    async def acknowledged(self, command_id: str, seconds: float) -> bool:
        """Return whether the answer to this command is stored within this time."""
        if self._journal.state(command_id) != "finished":
            return True
        event = self._waiters.setdefault(command_id, asyncio.Event())
        return await set_within(event, seconds)

    async def empty(self, seconds: float) -> bool:
        """Return whether everything is sent within this time."""
        self.wake()
        return await set_within(self._emptied, seconds)

    async def run(self) -> None:
        backoff = Backoff(1, 30)
        while True:
            await self._filled.wait()
            await self._link.opened.wait()
            command_id, message, _ = self._queue[0]
            self._retry.clear()
            try:
                correlation_id = self._journal.correlation_id(command_id)
                await self._link.publish_stored("response", message, correlation_id)
            except NotStoredError as error:
                if isinstance(error, MessageTooLargeError) and self._shrink_first():
                    continue
                log.warning("the response to %s is kept: %s", command_id, error)
                await set_within(self._retry, backoff.next())
            else:
                backoff.reset()
                await self._remove_first()

    def _add(self, command_id: str, message: bytes, *, is_answer: bool) -> None:
        self._queue.append((command_id, message, is_answer))
        self._filled.set()
        self._emptied.clear()

    def _shrink_first(self) -> bool:
        """Replace an answer that can never be stored by a much smaller one that says so. Return
        whether there is one now."""
        command_id, message, is_answer = self._queue[0]
        smaller = too_large(command_id, len(message))
        if not is_answer or len(message) < 2 * len(smaller):
            return False
        self._queue[0] = (command_id, smaller, is_answer)
        return True

    async def _remove_first(self) -> None:
        command_id, _, is_answer = self._queue.popleft()
        if not self._queue:
            self._filled.clear()
        if is_answer:
            try:
                await self._journal.acknowledge(command_id)
            except OSError as error:
                log.error("the journal cannot be written: %s", error)
            if event := self._waiters.pop(command_id, None):
                event.set()
        if not self._queue:
            self._emptied.set()


def response(command_id: str, result: JsonObject) -> bytes:
    return to_json({"command_id": command_id, "timestamp": epoch_seconds(), "result": result})


def within_limit(result: Any) -> JsonObject:
    """Return the result, cut if it is too large, with its original size in bytes as `cut_from`. A
    list is cut to its first elements, anything else to the beginning of its JSON as text."""
    whole = to_json(result)
    if len(whole) <= MAX_RESULT_BYTES:
        return {"result": result}
    kept: Any = None
    if isinstance(result, list):
        sizes = itertools.accumulate(len(to_json(each)) + 1 for each in result)
        kept = result[: sum(1 for size in sizes if size < MAX_RESULT_BYTES)]
    if not kept:
        text = result if isinstance(result, str) else whole.decode(errors="replace")
        kept = text[:MAX_RESULT_BYTES]
        while (size := len(to_json(kept))) > MAX_RESULT_BYTES:
            kept = kept[: len(kept) * MAX_RESULT_BYTES // size - 1]
    return {"result": kept, "cut_from": len(whole)}


def too_large(command_id: str, size: int) -> bytes:
    reason = f"the result is too large to send ({size} bytes); ask for less"
    return response(command_id, {"status": "error", "error": reason})


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter of a command. `type` is string, integer, number, or list (of `choices`)."""

    name: str
    type: str
    description: str
    default: Any = None
    required: bool = False
    choices: tuple[str, ...] = ()
    range: tuple[float, float] | None = None

    def describe(self) -> JsonObject:
        described = {
            "name": self.name,
            "type": self.type,
            "required": self.required,
            "default": self.default,
            "description": self.description,
        }
        if self.choices:
            described["choices"] = self.choices
        if self.range:
            described["minimum"], described["maximum"] = self.range
        return described

    def check(self, value: Any) -> Any:
        """Return the value as the command takes it. Raise CommandError if it is not valid."""
        allowed = f"the parameter {self.name} must be {self._allowed()}"
        if isinstance(value, bool):
            raise CommandError(allowed)
        match self.type:
            case "string":
                good = isinstance(value, str) and (not self.choices or value in self.choices)
            case "integer":
                good = isinstance(value, int) and self._in_range(value)
            case "number":
                good = isinstance(value, int | float) and self._in_range(value)
            case _:
                known = isinstance(value, list) and all(item in self.choices for item in value)
                good = known and len(value) > 0
        if not good:
            raise CommandError(allowed)
        return value

    def _in_range(self, value: float) -> bool:
        # With NaN the comparison is false.
        lowest, highest = self.range or (-math.inf, math.inf)
        return lowest <= value <= highest

    def _allowed(self) -> str:
        if self.choices:
            one_of = ", ".join(self.choices)
            return f"a list of: {one_of}" if self.type == "list" else f"one of: {one_of}"
        article = "an" if self.type == "integer" else "a"
        limits = f" from {self.range[0]:g} to {self.range[1]:g}" if self.range else ""
        return f"{article} {self.type}{limits}"


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that the agent knows. `run` takes the checked parameters and returns JSON, or
    raises CommandError. `after` is called when the answer is stored, or has waited too long."""

    name: str
    description: str
    run: Callable[[JsonObject], Awaitable[Any]]
    parameters: tuple[Parameter, ...] = ()
    after: Callable[[], None] | None = None

    def describe(self) -> JsonObject:
        return {
            "name": self.name,
            "description": self.description,
            "parameters": [parameter.describe() for parameter in self.parameters],
        }

    def check(self, given: JsonObject) -> JsonObject:
        """Return all parameters, with the defaults of those not given. Raise CommandError."""
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                allowed = ", ".join(known) or "none"
                raise CommandError(f"{self.name} has no parameter {name!r}; it takes: {allowed}")
        checked = {}
        for name, parameter in known.items():
            if given.get(name) is not None:
                checked[name] = parameter.check(given[name])
            elif parameter.required:
                raise CommandError(f"{self.name} needs the parameter {name}")
            else:
                checked[name] = parameter.default
        return checked


STREAM_PARAMETERS = (
    Parameter("metrics", "list", "Which ones.", list(METRIC_TYPES), choices=METRIC_TYPES),
    Parameter(
        "interval", "number", "Seconds from value to value.", METRICS_SECONDS, range=(0.5, 60)
    ),
    Parameter("ttl", "number", "Seconds until it is as by default.", 600, range=(1, 86_400)),
)
PSUTIL_PARAMETERS = (
    Parameter(
        "kind",
        "string",
        "All at a glance, or the processes.",
        "summary",
        choices=("summary", "processes"),
    ),
    Parameter("sort_by", "string", "Which processes come first.", "cpu", choices=("cpu", "memory")),
    Parameter("limit", "integer", "How many processes.", 20, range=(1, 500)),
)
OSQUERY_PARAMETERS = (
    Parameter("query", "string", "Exactly one SELECT statement.", required=True),
    Parameter("timeout", "number", "Seconds it may take.", 30, range=(1, 300)),
)


class Commands:
    """The commands that this agent knows."""

    def __init__(
        self,
        threads: Threads,
        stream: "MetricsStream",
        session_id: str,
        restart: Callable[[], None],
        renew: Callable[[], Awaitable[JsonObject]],
    ) -> None:
        self._threads = threads
        self._stream = stream
        self._renew = renew
        self._session_id = session_id
        offered = (
            Command("ping", "Answers with the agent's clock and version.", self._ping),
            Command("system_info", "What this computer is.", self._system_info),
            Command(
                "psutil_info", "What this computer does.", self._psutil_info, PSUTIL_PARAMETERS
            ),
            Command("osquery", "Asks osquery, where installed.", self._osquery, OSQUERY_PARAMETERS),
            Command(
                "start_metrics",
                "Streams live metrics as told, for a time.",
                self._start_metrics,
                STREAM_PARAMETERS,
            ),
            Command("stop_metrics", "Streams no live metrics.", self._stop_metrics),
            Command(
                "renew_credentials",
                "Fetches a fresh credential and brings it into use.",
                self._renew_credentials,
            ),
            Command("restart", "Restarts the agent.", self._restart, after=restart),
        )
        self._offered = {command.name: command for command in offered}

    def describe(self) -> list[JsonObject]:
        return [command.describe() for command in self._offered.values()]

    def find(self, name: object) -> Command:
        """Return the command of this name. Raise CommandError if there is none."""
        command = self._offered.get(name) if isinstance(name, str) else None
        if command is None:
            offered = ", ".join(self._offered)
            raise CommandError(f"unknown command {name!r}; this agent offers: {offered}")
        return command

    async def _ping(self, _: JsonObject) -> JsonObject:
        return {
            "message": "pong",
            "agent_time": epoch_seconds(),
            "agent_version": VERSION,
            "session_id": self._session_id,
        }

    async def _system_info(self, _: JsonObject) -> JsonObject:
        return await self._threads.run(system_info)

    async def _psutil_info(self, parameters: JsonObject) -> Any:
        if parameters["kind"] == "summary":
            return await self._threads.run(summary)
        return await self._threads.run(processes, parameters["sort_by"], parameters["limit"])

    async def _osquery(self, parameters: JsonObject) -> Any:
        query = await self._threads.run(single_select, parameters["query"])
        output = await osquery(query, parameters["timeout"])
        return await self._threads.run(rows_of, output)

    async def _renew_credentials(self, _: JsonObject) -> JsonObject:
        return await self._renew()

    async def _start_metrics(self, parameters: JsonObject) -> JsonObject:
        self._stream.start(parameters["metrics"], parameters["interval"], parameters["ttl"])
        return parameters

    async def _stop_metrics(self, _: JsonObject) -> JsonObject:
        self._stream.stop()
        return {"metrics": []}

    async def _restart(self, _: JsonObject) -> JsonObject:
        return {"message": "restarting", "session_id": self._session_id}


class CommandRunner:
    """Accept commands as they arrive, and run each of them once."""

    def __init__(self, commands: Commands, journal: Journal, outbox: Outbox) -> None:
        self._commands = commands
        self._journal = journal
        self._outbox = outbox
        self._queue: asyncio.Queue[tuple[str, JsonObject]] = asyncio.Queue()
        # Two connections may deliver at once, while one replaces the other.
        self._accepting = asyncio.Lock()
        self._unfinished: set[asyncio.Future[None]] = set()
        self._closed = False

    async def load(self) -> None:
        """Continue with the commands in the journal of an earlier run."""
        for command_id in self._journal.started:
            await self._interrupted(command_id)
        for command_id, command in self._journal.received:
            self._outbox.send_receipt(command_id)
            self._queue.put_nowait((command_id, command))

    def close(self) -> None:
        """Ignore commands from now on; without a receipt the server sends them again."""
        self._closed = True

    async def receive(self, data: bytes, correlation_id: str = "") -> None:
        command = parse_command(data)
        if command is None:
            log.debug("ignored a message that is not a command")
            return
        accepting = asyncio.ensure_future(self._accept_in_turn(*command, correlation_id))
        self._unfinished.add(accepting)
        accepting.add_done_callback(self._unfinished.discard)
        # A connection that is given up cancels this; what is in the journal is queued all the same.
        await asyncio.shield(accepting)

    async def _accept_in_turn(
        self, command_id: str, command: JsonObject, correlation_id: str
    ) -> None:
        async with self._accepting:
            await self._accept(command_id, command, correlation_id)

    async def run(self) -> None:
        while True:
            command_id, command = await self._queue.get()
            await self._run(command_id, command)

    async def _accept(self, command_id: str, command: JsonObject, correlation_id: str) -> None:
        if self._closed:
            return
        if self._journal.state(command_id) is None:
            if self._journal.full:
                log.warning("command %s is not taken: too many are under way", command_id)
                return
            try:
                await self._journal.receive(command_id, command, correlation_id)
            except OSError as error:
                log.error("command %s is not taken: the journal fails: %s", command_id, error)
                return
            self._queue.put_nowait((command_id, command))
        # The queue is read only after this, so the receipt goes out before the answer.
        self._outbox.send_receipt(command_id)

    async def _run(self, command_id: str, request: JsonObject) -> None:
        begun = time.monotonic()
        command: Command | None = None
        try:
            await self._start(command_id)
            if "problem" in request:
                raise CommandError(str(request["problem"]))
            command = self._commands.find(request.get("command"))
            result = await self._result(command, request.get("parameters"))
            outcome = {"status": "success", **await asyncio.to_thread(within_limit, result)}
        except asyncio.CancelledError:
            await self._interrupted(command_id)
            raise
        except CommandError as error:
            outcome = {"status": "error", "error": str(error)[:MAX_ERROR_LENGTH]}
        except Exception as error:
            log.exception("command %s failed", command_id)
            reason = f"{type(error).__name__}: {error}"
            outcome = {"status": "error", "error": reason[:MAX_ERROR_LENGTH]}
        outcome["duration_ms"] = round((time.monotonic() - begun) * 1000, 1)
        # Stopping must not interrupt the writing of an answer.
        await asyncio.shield(self._outbox.send_answer(command_id, outcome))
        if command is not None and command.after is not None and outcome["status"] == "success":
            await self._outbox.acknowledged(command_id, RESTART_SECONDS)
            command.after()

    async def _start(self, command_id: str) -> None:
        """Record that a command is started. Raise CommandError if that fails."""
        try:
            await self._journal.start(command_id)
        except OSError as error:
            raise CommandError(f"not run: the journal cannot be written: {error}") from error

    @staticmethod
    async def _result(command: Command, parameters: object) -> Any:
        if parameters is None:
            parameters = {}
        if not isinstance(parameters, dict):
            raise CommandError("parameters must be an object")
        return await command.run(command.check(parameters))

    async def _interrupted(self, command_id: str) -> None:
        reason = "interrupted: the agent ended while it ran this; it is not run again"
        await self._outbox.send_answer(command_id, {"status": "error", "error": reason})


def parse_command(data: bytes) -> tuple[str, JsonObject] | None:
    """Return a command's id and `{command, parameters}`, from the bare payload or from its wrapper
    `{tenant_uuid, device_uuid, message_type, payload, ...}`. Return `{problem}` with the id if it
    can only be answered, and None for any other message."""
    if len(data) > MAX_COMMAND_BYTES:
        return unusable(data, f"the command is larger than {MAX_COMMAND_BYTES} bytes")
    try:
        message = json.loads(data)
    except ValueError:
        return unusable(data, "the command is not JSON that can be read")
    except RecursionError:
        return unusable(data, TOO_DEEP)
    if isinstance(message, dict) and isinstance(message.get("payload"), dict):
        message = message["payload"]
    if not isinstance(message, dict):
        return None
    command_id = message.get("command_id")
    if not is_command_id(command_id):
        return None
    request = {name: message.get(name) for name in ("command", "parameters")}
    return command_id, {"problem": TOO_DEEP} if nested_too_deep(request) else request


TOO_DEEP = f"the command is nested deeper than {MAX_DEPTH} levels"
COMMAND_ID = re.compile(rb'"command_id"\s*:\s*"([\w.:-]{1,%d})"' % MAX_ID_LENGTH)


def unusable(data: bytes, problem: str) -> tuple[str, JsonObject] | None:
    """Return the id and problem of a command that can only be answered, None without one id."""
    named = set(COMMAND_ID.findall(data))
    return (named.pop().decode(), {"problem": problem}) if len(named) == 1 else None


def is_command_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= MAX_ID_LENGTH and value.isprintable()


# Where installers put osquery; a service often has a shorter PATH.
OSQUERY_FOLDERS = ("/usr/bin", "/usr/local/bin", "/opt/osquery/bin", r"C:\Program Files\osquery")
# Functions by which some builds of SQLite reach beyond the tables.
FORBIDDEN_FUNCTION = re.compile("load_extension|readfile|writefile|fts3_tokenizer", re.IGNORECASE)


def single_select(query: str) -> str:
    """Return the query without its final semicolon. Raise CommandError unless it is one SELECT.

    SQLite itself decides, as osquery is SQLite: the text of a view must be one SELECT and nothing
    after it, whatever is in quotes, comments and names. A view is parsed without its tables, and
    here only explained, so nothing is run.
    """
    if len(query.encode("utf-8", "surrogatepass")) > MAX_QUERY_BYTES:
        raise CommandError(f"the query is larger than {MAX_QUERY_BYTES} bytes")
    query = query.strip().rstrip(";").rstrip()
    if not re.match(r"(select|with)\b", query, re.IGNORECASE):
        raise CommandError("only a SELECT statement is allowed")
    if "\0" in query:
        raise CommandError("the query holds a NUL character")
    if forbidden := FORBIDDEN_FUNCTION.search(query):
        raise CommandError(f"{forbidden.group()} is not allowed in a query")
    try:
        with contextlib.closing(sqlite3.connect(":memory:")) as database:
            database.execute(f"EXPLAIN CREATE TEMP VIEW checked AS {query}")
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        if "one statement" in str(error):
            raise CommandError("only one statement is allowed") from error
        raise CommandError(f"the query is not one SELECT statement: {error}") from error
    return query


def find_osquery() -> str | None:
    search = os.pathsep.join(OSQUERY_FOLDERS)
    return shutil.which("osqueryi") or shutil.which("osqueryi", path=search)


async def osquery(query: str, seconds: float) -> bytes:
    """Run a query that `single_select` has checked, and return what osquery prints. Raise
    CommandError."""
    program = find_osquery()
    if program is None:
        raise CommandError("osquery is not installed on this computer (osqueryi was not found)")
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "--json",
            query,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandError(f"osquery cannot be started: {error}") from error
    try:
        async with asyncio.timeout(seconds):
            output, errors = await asyncio.gather(
                read_limited(process.stdout), read_limited(process.stderr)
            )
            status = await process.wait()
    except TimeoutError:
        raise CommandError(f"osquery took longer than {seconds:g} s and was ended") from None
    finally:
        await end_process(process)
    if len(output) > MAX_OUTPUT_BYTES:
        raise CommandError(f"the result is larger than {MAX_OUTPUT_BYTES} bytes; ask for less")
    if status != 0:
        reason = errors.decode(errors="replace").strip()[-1000:]
        raise CommandError(f"osquery failed ({status}): {reason or 'it does not say why'}")
    return output


def rows_of(output: bytes) -> Any:
    """Parse osquery's output as a list of objects. Raise CommandError if it is not one."""
    try:
        rows = json.loads(output)
    except (ValueError, RecursionError) as error:
        raise CommandError("osquery's answer cannot be read") from error
    if nested_too_deep(rows):
        raise CommandError(f"osquery's answer is nested deeper than {MAX_DEPTH} levels")
    return rows


async def read_limited(stream: asyncio.StreamReader | None) -> bytes:
    """Read to the end, but keep only as much as shows that it is too much."""
    content = bytearray()
    while stream is not None and (part := await stream.read(65_536)):
        content += part[: MAX_OUTPUT_BYTES + 1 - len(content)]
    return bytes(content)


async def end_process(process: asyncio.subprocess.Process) -> None:
    """End a process and those that it has started."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
        # Unlike `wait` this empties the pipes, without which asyncio does not see the end.
        await process.communicate()


def system_disk() -> str:
    if sys.platform == "win32":
        return os.environ.get("SYSTEMDRIVE", "C:") + "\\"
    # On macOS / is a small read-only volume.
    data = Path("/System/Volumes/Data")
    return str(data) if data.is_dir() else "/"


def uptime() -> float:
    """Return the seconds since this computer started."""
    return round(time.time() - float(psutil.boot_time()), 1)


def cpu_model() -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "linux":
            for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
                name, _, value = line.partition(":")
                if name.strip() in ("model name", "Model"):
                    return value.strip()
        if sys.platform == "darwin":
            command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(
                command, capture_output=True, text=True, timeout=5, check=True
            ).stdout.strip()
    return platform.processor() or platform.machine()


def ip_addresses() -> list[str]:
    """Return the addresses at which others may reach this computer: no loopback or link-local."""
    families = (socket.AF_INET, socket.AF_INET6)
    return sorted(
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in families
        and not address.address.startswith(("127.", "169.254.", "::1", "fe80:"))
    )


def system_info() -> JsonObject:
    return {
        "hostname": socket.gethostname(),
        "platform": platform.system(),
        "platform_release": platform.release(),
        "platform_version": platform_version(),
        "architecture": platform.machine(),
        "cpu_model": cpu_model(),
        "cpu_count": psutil.cpu_count(),
        "cpu_cores": psutil.cpu_count(logical=False),
        "memory_total": psutil.virtual_memory().total,
        "disk_total": psutil.disk_usage(system_disk()).total,
        "boot_time": psutil.boot_time(),
        "python_version": platform.python_version(),
        "ip_addresses": ip_addresses(),
    }


def platform_version() -> str:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return platform.freedesktop_os_release().get("PRETTY_NAME", platform.version())
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    return platform.version()


def current_status() -> JsonObject:
    return {
        "uptime": uptime(),
        "load": [round(load, 2) for load in psutil.getloadavg()],
        "processes": len(psutil.pids()),
        "memory_percent": psutil.virtual_memory().percent,
        "disk_percent": psutil.disk_usage(system_disk()).percent,
    }


def summary() -> JsonObject:
    per_cpu = psutil.cpu_percent(interval=0.3, percpu=True)
    disks = []
    for partition in psutil.disk_partitions():
        with contextlib.suppress(OSError):
            usage = psutil.disk_usage(partition.mountpoint)
            disks.append(
                {
                    "device": partition.device,
                    "mountpoint": partition.mountpoint,
                    "filesystem": partition.fstype,
                    **usage._asdict(),
                }
            )
    return current_status() | {
        "cpu": {"percent": round(sum(per_cpu) / max(len(per_cpu), 1), 1), "per_cpu": per_cpu},
        "memory": psutil.virtual_memory()._asdict(),
        "swap": psutil.swap_memory()._asdict(),
        "disks": disks,
        "network": {
            name: {"bytes_sent": counters.bytes_sent, "bytes_received": counters.bytes_recv}
            for name, counters in psutil.net_io_counters(pernic=True).items()
        },
        "users": sorted({user.name for user in psutil.users()}),
    }


def processes(sort_by: str, limit: int) -> list[JsonObject]:
    """Return the first processes by CPU or memory, without their command lines, which may contain
    secrets."""
    watched = list(psutil.process_iter())
    for process in watched:
        with contextlib.suppress(psutil.Error):
            process.cpu_percent()
    time.sleep(0.3)
    attributes = ["pid", "name", "username", "status", "cpu_percent", "memory_percent"]
    found = []
    for process in watched:
        with contextlib.suppress(psutil.Error):
            found.append(process.as_dict([*attributes, "create_time"]))
    found.sort(key=lambda entry: entry[f"{sort_by}_percent"] or 0.0, reverse=True)
    return [
        entry | {"memory_percent": round(entry["memory_percent"] or 0.0, 2)}
        for entry in found[:limit]
    ]


class Sampler:
    """Read the six metrics.

    cpu_percent is over the time since the previous sample, and network_bytes_* are bytes per second
    since then, of all interfaces but loopback; so the first sample has none of the three. uptime is
    in seconds.
    """

    def __init__(self) -> None:
        # psutil keeps the CPU times of the call before for each thread.
        self._thread = Threads(1, "sampler")
        self._previous: tuple[float, int, int] | None = None

    async def read(self) -> dict[str, float]:
        return await self._thread.run(self._read)

    def _read(self) -> dict[str, float]:
        now = time.monotonic()
        received, sent = self._traffic()
        values = {
            "cpu_percent": psutil.cpu_percent(),
            "memory_percent": psutil.virtual_memory().percent,
            "disk_percent": psutil.disk_usage(system_disk()).percent,
            "uptime": uptime(),
        }
        previous, self._previous = self._previous, (now, received, sent)
        if previous is None or now <= previous[0]:
            del values["cpu_percent"]
            return values
        seconds = now - previous[0]
        # An interface that went away takes its bytes with it.
        values["network_bytes_in"] = round(max(received - previous[1], 0) / seconds, 1)
        values["network_bytes_out"] = round(max(sent - previous[2], 0) / seconds, 1)
        return values

    @staticmethod
    def _traffic() -> tuple[int, int]:
        counters = [
            counter
            for name, counter in psutil.net_io_counters(pernic=True).items()
            if name not in ("lo", "lo0") and not name.startswith("Loopback")
        ]
        return sum(each.bytes_recv for each in counters), sum(each.bytes_sent for each in counters)


class MetricsStream:
    """Publish the live metrics; what cannot be sent at once is dropped."""

    def __init__(self, configuration: Configuration, link: Link) -> None:
        self._configuration = configuration
        self._link = link
        self._sampler = Sampler()
        self._changed = asyncio.Event()
        self._metrics: tuple[str, ...] = ()
        self._reset()

    def start(self, metrics: Sequence[str], interval: float, ttl: float) -> None:
        """Stream as asked for `ttl` seconds, then as by default."""
        self._metrics = tuple(metrics)
        self._interval = interval
        self._ends = time.monotonic() + ttl
        self._changed.set()

    def stop(self) -> None:
        """Stop streaming until `start`, or a restart of the agent."""
        self._metrics = ()
        self._ends = math.inf
        self._changed.set()

    async def run(self) -> None:
        while True:
            self._changed.clear()
            begun = time.monotonic()
            if begun >= self._ends:
                self._reset()
            if self._metrics:
                await self._publish(await self._sampler.read())
            due = min(begun + self._interval, self._ends)
            await set_within(self._changed, max(due - time.monotonic(), 0))

    def _reset(self) -> None:
        self._metrics = METRIC_TYPES
        self._interval = METRICS_SECONDS
        self._ends = math.inf

    async def _publish(self, values: dict[str, float]) -> None:
        timestamp = int(time.time() * 1000)
        with contextlib.suppress(BrokerUnavailableError):
            for metric_type in self._metrics:
                if metric_type in values:
                    message = {
                        "device_uuid": self._configuration.device_uuid,
                        "tenant_uuid": self._configuration.tenant_uuid,
                        "metric_type": metric_type,
                        "value": values[metric_type],
                        "timestamp_ms": timestamp,
                    }
                    await self._link.publish_metric(metric_type, to_json(message))


class Heartbeat:
    """Send a heartbeat each minute, and on each new connection.

    A heartbeat that the platform has not stored is replaced by a new one, so at most one is
    waiting.
    """

    def __init__(self, link: Link, threads: Threads, session_id: str) -> None:
        self._link = link
        self._threads = threads
        self._session_id = session_id
        self._wake = asyncio.Event()
        self._started = time.monotonic()

    def wake(self) -> None:
        """Send a heartbeat now."""
        self._wake.set()

    async def run(self, commands: Commands, journal: Journal) -> None:
        backoff = Backoff(2, HEARTBEAT_SECONDS)
        while True:
            await self._link.opened.wait()
            self._wake.clear()
            try:
                await self._link.publish_stored("heartbeat", await self._body(commands, journal))
                backoff.reset()
                pause = HEARTBEAT_SECONDS
            except NotStoredError as error:
                pause = backoff.next()
                log.warning("the heartbeat is not stored: %s; again in %.0f s", error, pause)
            await set_within(self._wake, pause)

    async def _body(self, commands: Commands, journal: Journal) -> bytes:
        information = await self._threads.run(system_info)
        status = await self._threads.run(current_status)
        status["agent_uptime"] = round(time.monotonic() - self._started, 1)
        status["unsent_responses"] = len(journal.finished)
        if journal.problem:
            status["journal_problem"] = journal.problem
        return to_json(
            {
                "agent_version": VERSION,
                "session_id": self._session_id,
                "timestamp": epoch_seconds(),
                "capabilities": {
                    "tools": ["psutil", "osquery"] if find_osquery() else ["psutil"],
                    "streaming_metrics": METRIC_TYPES,
                    "receipts": True,
                    "commands": commands.describe(),
                },
                "system_info": information,
                "status": status,
            }
        )


class Agent:
    """A running agent with all its parts, from start to stop."""

    def __init__(
        self,
        folder: ConfigurationFolder,
        configuration: Configuration,
        threads: Threads,
        ended: "asyncio.Future[Outcome]",
    ) -> None:
        self._ended = ended
        session_id = str(uuid.uuid4())
        self._link = Link(configuration, self._connected)
        self._keeper = CredentialKeeper(folder, configuration, threads, self._link.wake)
        self._journal = Journal(folder.journal)
        self._outbox = Outbox(self._link, self._journal)
        self._stream = MetricsStream(configuration, self._link)
        self._configuration = configuration
        self._commands = Commands(
            threads, self._stream, session_id, self._restart, self._renew_credentials
        )
        self._runner = CommandRunner(self._commands, self._journal, self._outbox)
        self._heartbeat = Heartbeat(self._link, threads, session_id)

    def refresh_credentials(self) -> None:
        self._keeper.want()

    async def run(self) -> Outcome:
        """Run until the agent has to end. Raise ConfigurationError."""
        await unless_ended(self._ended, self._load())
        if self._ended.done():
            return self._ended.result()
        workers = [
            self._task(f"command worker {number}", self._runner.run)
            for number in range(1, COMMANDS_AT_ONCE + 1)
        ]
        reporters = [
            self._task("credential keeper", self._keeper.run),
            self._task("metrics", self._stream.run),
            self._task("heartbeat", lambda: self._heartbeat.run(self._commands, self._journal)),
        ]
        senders = [
            self._task("outbox", self._outbox.run),
            self._task("link", lambda: self._link.run(self._keeper, self._runner.receive)),
        ]
        outcome = await self._ended
        log.info("stopping")
        self._runner.close()
        await cancelled([*workers, *reporters])
        await self._outbox.empty(STOP_SECONDS)
        await cancelled(senders)
        await self._link.close()
        return outcome

    async def _load(self) -> None:
        """Load the journal, and continue what it has left. Raise ConfigurationError."""
        await self._journal.load()
        self._outbox.load()
        await self._runner.load()

    @staticmethod
    def _task(name: str, work: Callable[[], Awaitable[None]]) -> "asyncio.Task[None]":
        return asyncio.create_task(keep_running(name, work), name=name)

    def _connected(self) -> None:
        self._heartbeat.wake()
        self._outbox.wake()

    async def _renew_credentials(self) -> JsonObject:
        """Fetch a fresh JWT and wait until it is in use. Raise CommandError."""
        await self._keeper.renew()
        jwt = self._configuration.jwt
        if not await self._link.in_use(jwt):
            raise CommandError("there is a fresh JWT, but no connection with it yet")
        return {"message": "a fresh JWT is in use", "lifetime": jwt_lifetime(jwt)}

    def _restart(self) -> None:
        if not self._ended.done():
            self._ended.set_result(Outcome.RESTART)


async def cancelled(tasks: "Sequence[asyncio.Task[Any]]") -> None:
    """Cancel the tasks, and wait a limited time for them to end."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=STOP_SECONDS)


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    environment = os.environ
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0],
        epilog=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    enrolment = parser.add_argument_group("to enrol, once")
    enrolment.add_argument(
        "--server",
        metavar="URL",
        default=environment.get("WEGWEISER_SERVER"),
        help="address of the Wegweiser server (WEGWEISER_SERVER); given later, it replaces "
        "the one in the configuration",
    )
    enrolment.add_argument(
        "--group",
        metavar="UUID",
        default=environment.get("WEGWEISER_GROUP"),
        help="the group this device joins (WEGWEISER_GROUP)",
    )
    enrolment.add_argument(
        "--enrollment-key",
        metavar="KEY",
        # Removed, so that no program started by the agent inherits it.
        default=environment.pop("WEGWEISER_ENROLLMENT_KEY", None),
        help="the group's enrolment key; better set WEGWEISER_ENROLLMENT_KEY, since arguments "
        "are visible in the list of processes",
    )
    enrolment.add_argument(
        "--name",
        metavar="HOSTNAME",
        default=environment.get("WEGWEISER_DEVICE_NAME") or socket.gethostname(),
        help="the device's name (WEGWEISER_DEVICE_NAME; default: %(default)s)",
    )
    enrolment.add_argument(
        "--device",
        metavar="UUID",
        default=environment.get("WEGWEISER_DEVICE"),
        help="instead of a group and its key: the device that another system has registered for "
        "this computer (WEGWEISER_DEVICE)",
    )
    enrolment.add_argument(
        "--device-token",
        metavar="TOKEN",
        default=environment.pop("WEGWEISER_DEVICE_TOKEN", None),
        help="that device's token; better set WEGWEISER_DEVICE_TOKEN",
    )
    enrolment.add_argument(
        "--enroll-only", action="store_true", help="enrol, print the device's UUID and exit"
    )
    parser.add_argument(
        "--config-dir",
        metavar="DIR",
        type=Path,
        default=Path(environment.get("WEGWEISER_CONFIG_DIR") or default_folder()),
        help="configuration folder (WEGWEISER_CONFIG_DIR; default: %(default)s)",
    )
    parser.add_argument(
        "--ca",
        metavar="FILE",
        default=environment.get("WEGWEISER_CA_FILE"),
        help="certificate of the only CA to trust, in PEM; it is remembered "
        "(WEGWEISER_CA_FILE). `system` trusts what the system trusts, which is the default",
    )
    parser.add_argument(
        "--insecure",
        action=argparse.BooleanOptionalAction,
        default=flag(environment.get("WEGWEISER_INSECURE")),
        help="allow http, nats and ws to other computers: anybody on the way can read this "
        "device's credentials and command it; remembered (WEGWEISER_INSECURE)",
    )
    parser.add_argument(
        "--log-file",
        metavar="FILE",
        type=Path,
        help="log to this file, which is rotated, instead of standard error",
    )
    parser.add_argument("--verbose", action="store_true", help="log more")
    parser.add_argument("--version", action="version", version=VERSION)
    return parser.parse_args(arguments)


def flag(text: str | None) -> bool | None:
    return text.lower() in ("1", "true", "yes", "on") if text else None


def set_up_logging(file: Path | None, verbose: bool) -> None:
    """Set up logging. Raise ConfigurationError if the log file cannot be opened."""
    handler: logging.Handler = logging.StreamHandler()
    if file is not None:
        try:
            handler = logging.handlers.RotatingFileHandler(file, maxBytes=5_000_000, backupCount=3)
        except OSError as error:
            raise ConfigurationError(f"cannot log to {file}: {error}") from error
    handler.setFormatter(Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    # The way nats-py begins TLS makes asyncio warn each time a connection ends.
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def initial_configuration(options: argparse.Namespace, folder: Path) -> Configuration:
    """Return a configuration with a new key pair. Raise ConfigurationError without the options."""
    needed = {
        "--server": options.server,
        "--group": options.group,
        "WEGWEISER_ENROLLMENT_KEY": options.enrollment_key,
    }
    if options.device:
        needed = {"--server": options.server, "WEGWEISER_DEVICE_TOKEN": options.device_token}
    missing = [name for name, value in needed.items() if not value]
    if missing:
        raise ConfigurationError(
            f"{folder} holds no enrolled device; to enrol, give {' and '.join(missing)} "
            "(see --help)"
        )
    name = "device" if options.device else "group"
    given = getattr(options, name)
    try:
        place = str(uuid.UUID(given))
    except ValueError as error:
        raise ConfigurationError(f"--{name} {given!r} is not a valid UUID") from error
    configuration = Configuration(
        server_url=server_url(options.server),
        group_uuid="" if options.device else place,
        device_name=options.name,
        nkey_seed=Key.new_seed(),
    )
    take_trust(options, configuration)
    return configuration


def server_url(url: str) -> str:
    """Return the server's address without a final slash. Raise ConfigurationError."""
    if url.partition(":")[0].lower() not in ("http", "https") or objection(url, insecure=True):
        raise ConfigurationError(f"--server {url!r} is not an http or https address")
    return url.rstrip("/")


def take_trust(options: argparse.Namespace, configuration: Configuration) -> bool:
    """Return whether the options changed which servers the agent trusts. Raise ConfigurationError,
    also if they forbid the agent's own server."""
    before = (configuration.ca, configuration.insecure)
    if options.ca == "system":
        configuration.ca = ""
    elif options.ca:
        configuration.ca = read_ca(options.ca, configuration.ca)
    if options.insecure is not None:
        configuration.insecure = options.insecure
    if problem := objection(configuration.server_url, configuration.insecure):
        raise ConfigurationError(problem)
    return before != (configuration.ca, configuration.insecure)


def read_ca(file: str, remembered: str) -> str:
    """Return the content of a certificate file. Raise ConfigurationError if it cannot be used and
    none was given before."""
    try:
        blocks = PEM_CERTIFICATE.findall(Path(file).read_text("utf-8"))
        if not blocks:
            raise ValueError("there is none in it")
        content = "\n".join(blocks)
        ssl.create_default_context(cadata=content)
    except (OSError, ValueError) as error:
        if not remembered:
            raise ConfigurationError(f"--ca {file} is not a certificate in PEM: {error}") from error
        log.warning("--ca %s cannot be used: %s; the one given before stays", file, error)
        return remembered
    return content


def objection(url: str, insecure: bool) -> str:
    """Return why a server must not or cannot be reached by this address, or an empty text."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return f"{url!r} is not an address"
    if parts.scheme not in ("http", "https", "nats", "tls", "ws", "wss") or not host:
        return f"{url!r} is not an address"
    if not insecure and parts.scheme in ("http", "nats", "ws") and not is_loopback(host):
        return (
            f"{parts.scheme}://{host} is not encrypted, so anybody on the way could read this "
            "device's credentials and command it; in a network you trust, allow it by --insecure"
        )
    if parts.scheme in ("ws", "wss") and importlib.util.find_spec("aiohttp") is None:
        return f"{parts.scheme}://{host} needs one package more: pip install aiohttp"
    return ""


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def explained(reason: str) -> str:
    """Return the error, with advice if it is about a certificate."""
    if "CERTIFICATE_VERIFY_FAILED" not in reason:
        return reason
    return f"{reason}; is it the right server, and does its certificate come from the --ca given?"


async def run(options: argparse.Namespace, folder: ConfigurationFolder) -> Outcome:
    """Run the agent until it ends. Raise AgentError."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Outcome] = loop.create_future()
    stop_on_signals(loop, ended)
    agent = await unless_ended(ended, prepare(options, folder, ended))
    if ended.done():
        return ended.result()
    return await agent.run() if agent is not None else Outcome.STOPPED


async def prepare(
    options: argparse.Namespace,
    folder: ConfigurationFolder,
    ended: "asyncio.Future[Outcome]",
) -> Agent | None:
    """Return an enrolled agent, or None if it was told only to enrol. Raise AgentError."""
    threads = Threads(8, "blocking")
    configuration = await threads.run(folder.load)
    if configuration is None or not configuration.enrolled:
        configuration = await threads.run(begin_enrolment, options, folder, configuration)
        enrolment = Enrolment(folder, configuration, threads)
        if options.device:
            await enrolment.take_over(str(uuid.UUID(options.device)), options.device_token)
        else:
            await enrolment.run(options.enrollment_key)
    if options.enroll_only:
        print(configuration.device_uuid, flush=True)
        return None
    moved = bool(options.server) and server_url(options.server) != configuration.server_url
    if moved:
        configuration.server_url = server_url(options.server)
    if await threads.run(take_trust, options, configuration) or moved:
        await threads.run(folder.save, configuration)
    agent = Agent(folder, configuration, threads, ended)
    if moved:
        # The broker may have moved along.
        agent.refresh_credentials()
    return agent


def begin_enrolment(
    options: argparse.Namespace, folder: ConfigurationFolder, unfinished: Configuration | None
) -> Configuration:
    """Write the configuration with which an enrolment starts. Raise ConfigurationError."""
    configuration = initial_configuration(options, folder.path)
    if unfinished is not None:
        # An enrolment was cut short: the server may know this key already.
        configuration.nkey_seed = unfinished.nkey_seed
        configuration.proved_at = unfinished.proved_at
    else:
        # The journal here belongs to another device.
        folder.forget_journal()
    folder.save(configuration)
    return configuration


def stop_on_signals(loop: asyncio.AbstractEventLoop, ended: "asyncio.Future[Outcome]") -> None:
    def stop(*_: object) -> None:
        if not ended.done():
            ended.set_result(Outcome.STOPPED)

    if sys.platform == "win32":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))
    else:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)


def restart() -> NoReturn:
    """Replace this process by a new agent with the same arguments."""
    command = [sys.executable, *sys.orig_argv[1:]]
    if sys.platform == "win32":
        # There exec returns to the caller's console before the new program runs.
        subprocess.Popen(command)
        end_process_now(0)
    os.execv(sys.executable, command)  # noqa: S606


def end_process_now(status: int) -> NoReturn:
    """End the process without waiting for threads, one of which may hang in a dead name server or
    disk."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> NoReturn:
    options = parse_options()
    # Where links lead is what is checked and used.
    folder = ConfigurationFolder(Path(os.path.realpath(options.config_dir)))
    outcome = Outcome.STOPPED
    status = 0
    try:
        set_up_logging(options.log_file, options.verbose)
        folder.create()
        folder.lock()
        # Not asyncio.run, which waits for threads at its end.
        outcome = asyncio.Runner().run(run(options, folder))
    except AgentError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        status = 1
    if outcome is Outcome.RESTART:
        log.info("restarting")
        logging.shutdown()
        folder.release()
        restart()
    end_process_now(status)


if __name__ == "__main__":
    main()
