"""Which port of 127.0.0.1 a server may have."""

import socket
from collections.abc import Set

from wegweiser.quickstart.errors import NoFreePort

LOOPBACK = "127.0.0.1"
TRIES = 1000


def free_port(preferred: int, taken: Set[int] = frozenset()) -> int:
    """The first free port of 127.0.0.1 from `preferred` on that is not in `taken`.

    Raises NoFreePort after TRIES ports, or at the end of the range.
    """
    for port in range(preferred, min(preferred + TRIES, 65536)):
        if port not in taken and is_free(port):
            return port
    raise NoFreePort(f"no free port on {LOOPBACK} from {preferred} on")


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        # As servers do; without it a port whose last connection just closed counts as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    # macOS lets us bind beside a server that listens on every address.
    return not accepts_connections(port)


def accepts_connections(port: int) -> bool:
    """Whether something listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0
