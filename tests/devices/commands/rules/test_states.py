"""The graph of states: what is declared wrongly does not get as far as running."""

import pytest

from devices.commands.rules.states import (
    COMMAND_STATES,
    HANDED_OVER,
    WAITING,
    StateGraph,
    WrongGraph,
)
from devices.errors import NoSuchTransition
from devices.models import Command, CommandState


@pytest.mark.parametrize(
    ("edges", "final", "corrections", "complaint"),
    [
        ({"a": ["b"], "c": ["b"]}, ["b"], {}, "Unreachable: c"),
        ({"a": ["b", "c"], "c": []}, ["b"], {}, "c is a dead end"),
        ({"a": ["b", "x"]}, ["b"], {}, "Not declared: x"),
        ({"a": ["b"], "b": ["a"]}, ["b"], {}, "b is final and leads on"),
        ({"a": ["b", "c"], "c": ["c"]}, ["b"], {}, "From c no end is reached"),
        ({"a": ["b"]}, ["b"], {"a": ["b"]}, "not between final states"),
        ({"b": ["c"]}, ["c"], {}, "Not declared: a"),
    ],
)
def test_a_graph_that_is_wrong_is_refused(
    edges: dict[str, list[str]], final: list[str], corrections: dict[str, list[str]], complaint: str
) -> None:
    with pytest.raises(WrongGraph, match=complaint):
        StateGraph(initial="a", final=final, edges=edges, corrections=corrections)


def test_a_transition_that_is_not_declared_is_refused() -> None:
    command = Command(state=CommandState.CANCELLED)
    with pytest.raises(NoSuchTransition, match="cancelled does not become sent"):
        command.become(CommandState.SENT)
    with pytest.raises(NoSuchTransition, match="no state lost"):
        COMMAND_STATES.sources_of("lost")
    assert COMMAND_STATES.sources_of("cancelled") == ("queued",)


def test_what_waits_is_cancelled_and_what_was_handed_over_is_given_up() -> None:
    assert sorted(WAITING + HANDED_OVER) == sorted(COMMAND_STATES.open)
    for state in HANDED_OVER:
        assert "failed" in COMMAND_STATES.edges[state]


def test_what_has_ended_is_corrected_only_where_an_answer_came_late() -> None:
    assert "expired" not in COMMAND_STATES.sources_of("succeeded")
    assert {"expired", "failed"} <= set(COMMAND_STATES.sources_of("succeeded", corrections=True))
    assert "cancelled" not in COMMAND_STATES.sources_of("succeeded", corrections=True)
