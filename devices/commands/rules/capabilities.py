"""Pure: read the commands that an agent names in its heartbeats' `capabilities`.

`commands` is a list of `{name, description, parameters: [{name, type, required, default,
description, choices, minimum, maximum}]}`; some agents send only `tools`, a list of names. All of
it comes from the device, so what has another shape is left out.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Parameter:
    """A parameter of a command; `type` is string, integer, number, boolean, list or object."""

    name: str
    type: str = "string"
    required: bool = False
    default: Any = None
    description: str = ""
    choices: tuple[str | int | float, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class Capability:
    """A command that an agent knows. If it does not describe the parameters (None), they may be any
    JSON object."""

    name: str
    description: str = ""
    parameters: tuple[Parameter, ...] | None = None


def read_capabilities(capabilities: Any) -> list[Capability]:
    """Return the agent's commands in its own order, or none if it names none in a usable form."""
    if not isinstance(capabilities, dict):
        return []
    described = [_capability(entry) for entry in _dicts(capabilities.get("commands"))]
    if described:
        return described
    tools = capabilities.get("tools")
    names = [tool for tool in tools if _is_name(tool)] if isinstance(tools, list) else []
    return [Capability(name) for name in names]


def _capability(entry: dict[str, Any]) -> Capability:
    parameters = tuple(_parameter(each) for each in _dicts(entry.get("parameters")))
    return Capability(entry["name"], _text(entry.get("description")), parameters)


def _parameter(entry: dict[str, Any]) -> Parameter:
    choices = entry.get("choices")
    return Parameter(
        name=entry["name"],
        type=_text(entry.get("type")) or "string",
        required=entry.get("required") is True,
        default=entry.get("default"),
        description=_text(entry.get("description")),
        choices=tuple(choice for choice in choices if isinstance(choice, str | int | float))
        if isinstance(choices, list)
        else (),
        minimum=_limit(entry.get("minimum")),
        maximum=_limit(entry.get("maximum")),
    )


def _dicts(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        return []
    return [each for each in value if isinstance(each, dict) and _is_name(each.get("name"))]


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 100


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _limit(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
