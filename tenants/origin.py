"""Where what is done now comes from: set at the edge (a request, a command), read by the audit."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """`via` is one of api, admin, web, command line, subscriber; `name` is who acts when it is no
    person with an account, such as the operating system's user; `address` is an IP address."""

    via: str = ""
    name: str = ""
    address: str = ""


_NOWHERE = Origin()
_current: ContextVar[Origin] = ContextVar("origin", default=_NOWHERE)


def current() -> Origin:
    return _current.get()


@contextmanager
def acting(origin: Origin) -> Iterator[None]:
    """What is recorded inside comes from `origin`."""
    token = _current.set(origin)
    try:
        yield
    finally:
        _current.reset(token)


def command_line() -> Origin:
    """This process, as somebody's command: `name` is the operating system's user."""
    try:
        import pwd
    except ImportError:  # Windows
        return Origin(via="command line", name=getpass.getuser())
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    return Origin(via="command line", name=name)
