import socket

import pytest

from tests.plugin import allot_port
from wegweiser.quickstart.errors import NoFreePort
from wegweiser.quickstart.ports import LOOPBACK, free_port, is_free


@pytest.mark.parametrize("address", [LOOPBACK, "0.0.0.0", "::"])
def test_a_port_that_something_listens_on_is_passed_over(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not is_free(port)
        assert free_port(port) > port


def test_a_port_promised_to_another_server_is_passed_over() -> None:
    port = allot_port()
    assert free_port(port) == port
    assert free_port(port, {port}) > port


def test_a_port_whose_last_connection_just_closed_is_free() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection((LOOPBACK, port)):
            accepted, _ = listener.accept()
            # The side that closes first waits in TIME_WAIT.
            accepted.close()
    assert is_free(port)


def test_the_end_of_the_range_is_said_so() -> None:
    with pytest.raises(NoFreePort, match="65535"):
        free_port(65535, {65535})
