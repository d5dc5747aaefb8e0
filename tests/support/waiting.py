"""Wait for what must come.

No test depends on how fast the machine is: it waits for a condition, and the limit is only a safety
net, which ends a test that would wait for ever.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

R = TypeVar("R")

SAFETY_NET = 60.0


def eventually(check: Callable[[], R], *, within: float = SAFETY_NET) -> R:
    """Return the first truthy answer of `check`; fail with its last one when there is none.

    `within` may lengthen the safety net, and never shortens it.
    """
    limit = max(within, SAFETY_NET)
    deadline = time.monotonic() + limit
    while not (answer := check()):
        assert time.monotonic() < deadline, f"not within {limit} s: {answer!r}"
        time.sleep(0.05)
    return answer


async def aeventually(check: Callable[[], Any], within: float = SAFETY_NET) -> Any:
    """As `eventually`; `check` may be a coroutine function."""
    limit = max(within, SAFETY_NET)
    deadline = time.monotonic() + limit
    while True:
        answer = check()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {limit} s: {answer!r}"
        await asyncio.sleep(0.01)
