"""Benchmarks print figures and judge none: each stands beside the bound measured in its own run."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest


@dataclass
class Figures:
    """Rates in things a second, by name; the first is the bound that the others are held to."""

    rates: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measured(self, name: str, count: int) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.rates[name] = count / (time.perf_counter() - started)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    taken = Figures()
    yield taken
    write: Callable[[str], None] = request.config.get_terminal_writer().line
    bound = next(iter(taken.rates.values()), 0.0)
    write(f"\n{request.node.name}")
    for name, rate in taken.rates.items():
        write(f"  {name:<60} {rate:>12,.0f}/s {rate / bound:>8.2f} of the bound")
