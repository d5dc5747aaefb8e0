"""Pure: the states of a command and the changes allowed between them, checked at import."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from devices.errors import NoSuchTransition


class WrongGraph(ValueError):
    """The declared states do not form a valid graph."""


@dataclass(frozen=True)
class StateGraph:
    """States by name. `edges` lead from open states; a final state is left only by a correction.

    `corrections` lead from one final state to another, for a response that comes after the command
    was given up.
    """

    initial: str
    final: Collection[str]
    edges: Mapping[str, Collection[str]]
    corrections: Mapping[str, Collection[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._refuse_unknown()
        for state, targets in self.edges.items():
            if state in self.final:
                raise WrongGraph(f"{state} is final and leads on.")
            if not targets:
                raise WrongGraph(f"{state} is a dead end and not final.")
        for state, targets in self.corrections.items():
            if not {state, *targets} <= set(self.final):
                raise WrongGraph(f"A correction from {state} is not between final states.")
        if lost := self.states - self._reached_from(self.initial):
            raise WrongGraph(f"Unreachable: {', '.join(sorted(lost))}.")
        for state in self.open:
            if not self._reached_from(state) & set(self.final):
                raise WrongGraph(f"From {state} no end is reached.")

    @property
    def states(self) -> set[str]:
        return {*self.edges, *self.final}

    @property
    def open(self) -> tuple[str, ...]:
        return tuple(self.edges)

    def sources_of(self, target: str, *, corrections: bool = False) -> tuple[str, ...]:
        """Return the states that may become `target`; with `corrections` the final ones too."""
        if target not in self.states:
            raise NoSuchTransition(f"There is no state {target}.")
        ways = [self.edges, self.corrections] if corrections else [self.edges]
        return tuple(
            state for leading in ways for state, targets in leading.items() if target in targets
        )

    def check(self, source: str, target: str) -> None:
        """Raise NoSuchTransition if `source` may not become `target`."""
        if source not in self.sources_of(target):
            raise NoSuchTransition(f"A command that is {source} does not become {target}.")

    def _refuse_unknown(self) -> None:
        named = {self.initial, *self.corrections}
        for targets in (*self.edges.values(), *self.corrections.values()):
            named.update(targets)
        if unknown := named - self.states:
            raise WrongGraph(f"Not declared: {', '.join(sorted(unknown))}.")

    def _reached_from(self, start: str) -> set[str]:
        reached: set[str] = set()
        waiting = [start]
        while waiting:
            state = waiting.pop()
            if state not in reached:
                reached.add(state)
                waiting += self.edges.get(state, ())
        return reached


COMMAND_STATES = StateGraph(
    initial="queued",
    final=("succeeded", "failed", "expired", "cancelled"),
    edges={
        # A message may have been sent although it seemed not to, so a response counts here too.
        "queued": ("sent", "delivered", "succeeded", "failed", "expired", "cancelled"),
        # Sent again where no receipt came; failed where no response came, or a person gave it up.
        "sent": ("queued", "sent", "delivered", "succeeded", "failed"),
        "delivered": ("succeeded", "failed"),
    },
    corrections={
        "expired": ("succeeded", "failed"),
        # Only if it failed without a response.
        "failed": ("succeeded", "failed"),
    },
)

# A waiting command can be cancelled. One that was handed to the broker cannot be called back, only
# given up.
WAITING = COMMAND_STATES.sources_of("cancelled")
HANDED_OVER = tuple(state for state in COMMAND_STATES.open if state not in WAITING)
