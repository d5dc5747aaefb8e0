from typing import Any

import pytest

from devices.commands.rules.capabilities import Capability, Parameter, read_capabilities


def test_described_commands_are_offered_with_their_parameters() -> None:
    parameter = {
        "name": "limit",
        "type": "integer",
        "required": True,
        "default": 5,
        "description": "How many.",
        "choices": [5, 10],
        "minimum": 1,
        "maximum": 10,
    }
    command = {"name": "list", "description": "Lists.", "parameters": [parameter]}
    expected = Parameter("limit", "integer", True, 5, "How many.", (5, 10), 1, 10)
    assert read_capabilities({"commands": [command], "tools": ["x"]}) == [
        Capability("list", "Lists.", (expected,))
    ]


def test_tools_are_offered_where_no_commands_are_described() -> None:
    assert read_capabilities({"tools": ["osquery", 3, "psutil"]}) == [
        Capability("osquery"),
        Capability("psutil"),
    ]


@pytest.mark.parametrize(
    "capabilities",
    [None, [], "ping", {"commands": "ping"}, {"commands": [{"name": ""}, 7]}, {"tools": {"a": 1}}],
)
def test_other_shapes_offer_nothing(capabilities: Any) -> None:
    assert read_capabilities(capabilities) == []
