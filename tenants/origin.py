"""Where what is done now comes from: set at the edge (a request, a command), read by the audit."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address


@dataclass(frozen=True)
class Origin:
    """`via` is one of api, admin, web, command line, subscriber; `name` is who acts when it is no
    person with an account, such as the operating system's user; `address` is an IP address."""

    via: str = ""
    name: str = ""
    address: str = ""


_NOWHERE = Origin()
_current: ContextVar[Origin] = ContextVar("origin", default=_NOWHERE)


def current_origin() -> Origin:
    return _current.get()


@contextmanager
def acting(origin: Origin) -> Iterator[None]:
    """What is recorded inside comes from `origin`."""
    token = _current.set(origin)
    try:
        yield
    finally:
        _current.reset(token)


def network_of(address: str) -> IPv4Network | IPv6Network | None:
    """Return the /24 of an IPv4 address and the /64 of an IPv6 one, which its holder has whole."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address):
        mapped = parsed.ipv4_mapped
        return (
            IPv4Network((mapped, 24), strict=False) if mapped else IPv6Network((parsed, 64), False)
        )
    return IPv4Network((parsed, 24), strict=False)


def command_line_origin() -> Origin:
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
