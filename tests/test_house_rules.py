"""A rule that waits for the one place where a command's state changes; the others: tests/house."""

import re

from tests.house.sources import product


def test_the_state_of_a_command_changes_only_where_the_graph_is_asked() -> None:
    assigned = re.compile(r"\.state = |SET state = '\w")
    for source in product():
        if source.path.parts[0] == "devices" and source.path.name != "nats_persistent_agent.py":
            assert source.path.name == "command.py" or not assigned.search(source.text), source
