"""The network that can be cut, without anything of ours behind it."""

import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.plugin import allot_port
from tests.suites.faults.proxy import Network, Route
from tests.support.system import eventually
from wegweiser.quickstart.ports import LOOPBACK, accepts_connections


@pytest.fixture
def far_end() -> Iterator[socket.socket]:
    with socket.create_server((LOOPBACK, allot_port())) as server:
        server.settimeout(5)
        yield server


@pytest.fixture
def network(far_end: socket.socket) -> Iterator[Network]:
    made = Network(allot_port(), [Route("line", allot_port(), far_end.getsockname()[1])])
    process = subprocess.Popen(made.command)
    try:
        eventually(lambda: accepts_connections(made.control_port))
        yield made
    finally:
        process.kill()
        process.wait()


def connected(network: Network) -> socket.socket:
    return socket.create_connection((LOOPBACK, network.port("line")), 5)


def is_silent(connection: socket.socket) -> bool:
    connection.settimeout(0.2)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(5)
    return False


def test_what_is_said_while_the_line_is_cut_arrives_when_it_is_joined(
    network: Network, far_end: socket.socket
) -> None:
    with connected(network) as near:
        far, _ = far_end.accept()
        with far:
            near.sendall(b"one")
            assert far.recv(10) == b"one"
            network.cut(["line"])
            near.sendall(b"two")
            far.sendall(b"three")
            assert is_silent(far)
            assert is_silent(near)
            network.join(["line"])
            assert far.recv(10) == b"two"
            assert near.recv(10) == b"three"


def test_an_end_is_not_heard_of_while_the_line_is_cut(
    network: Network, far_end: socket.socket
) -> None:
    with connected(network) as near:
        far, _ = far_end.accept()
        network.cut(["line"])
        far.close()
        assert is_silent(near)
        network.join(["line"])
        near.settimeout(5)
        assert near.recv(10) == b""


def test_a_new_connection_gets_no_further_while_the_line_is_cut(
    network: Network, far_end: socket.socket
) -> None:
    network.cut(["line"])
    with connected(network) as near:
        assert is_silent(near)
        network.join(["line"])
        far, _ = far_end.accept()
        with far:
            far.sendall(b"hello")
            assert near.recv(10) == b"hello"


def test_a_line_that_was_cut_twice_is_joined_twice(
    network: Network, far_end: socket.socket
) -> None:
    with connected(network) as near:
        far, _ = far_end.accept()
        with far:
            network.cut(["line"])
            network.cut(["line"])
            network.join(["line"])
            near.sendall(b"late")
            assert is_silent(far)
            network.join(["line"])
            assert far.recv(10) == b"late"
