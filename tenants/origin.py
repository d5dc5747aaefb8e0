"""Where an action comes from: set by a request or a command, and read by the audit."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address


@dataclass(frozen=True)
class Origin:
    """Where an action comes from.

    `via` is one of api, admin, web, command line, subscriber. `name` is who acts without an account
    here, such as the operating system's user. `address` is an IP address. `request_id` is the id of
    a request to the web.
    """

    via: str = ""
    name: str = ""
    address: str = ""
    request_id: str = ""


_NOWHERE = Origin()
_current: ContextVar[Origin] = ContextVar("origin", default=_NOWHERE)


def current_origin() -> Origin:
    return _current.get()


@contextmanager
def acting(origin: Origin) -> Iterator[None]:
    """Make `origin` the origin of everything that is recorded inside the block."""
    token = _current.set(origin)
    try:
        yield
    finally:
        _current.reset(token)


def network_of(address: str) -> IPv4Network | IPv6Network | None:
    """Return the /24 of an IPv4 address, or the /64 of an IPv6 one, all of which its holder has."""
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


def network_name(address: str) -> str:
    """Return the network that this address belongs to, as text."""
    return str(network_of(address) or "unknown")


def caller_address(forwarded: str, peer: str) -> str:
    """Return the caller's address: the last of what a proxy has forwarded, or else the peer's.

    The caller may have invented the others.
    """
    named = forwarded.rpartition(",")[2].strip()
    try:
        ip_address(named)
    except ValueError:
        return peer
    return named


def command_line_origin() -> Origin:
    """Return the origin of a management command: the operating system's user."""
    try:
        import pwd
    except ImportError:  # Windows
        return Origin(via="command line", name=getpass.getuser())
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    return Origin(via="command line", name=name)
