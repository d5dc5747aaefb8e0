"""Read messages ahead of their handling, to find senders of little behind those of much."""

import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Hashable, Iterator

from nats.aio.msg import Msg

from natsbridge.client.pull import PullConsumer
from natsbridge.rules.shares import Sender, Shares, sender_of
from natsbridge.rules.slow_lane import SlowLane

# The most that is read ahead; on a slow machine more would come again before it is handled. When
# it is full, the surplus of a sender that has more than all others is put off until its turn may
# come, as far as the broker allows messages without an answer (`max_ack_pending`).
HELD = 1_000
HELD_BYTES = 32 * 1024 * 1024
MOST_PUT_OFF = 60_000
PUT_OFF_SECONDS = (5.0, 30.0)
HANDLED_A_SECOND = 2_000
# A tenant that no other was heard beside for this long may fill all there is: nobody waits.
HEARD_SECONDS = 300.0
# The most messages of one device in a batch, so that others do not wait long for a flooder's.
OF_ONE_DEVICE = 200


class ReadAhead:
    """Messages that were read and not handled yet, in fair shares of all senders.

    `put_off` lets a message come again after some seconds.
    """

    def __init__(
        self,
        name: str,
        pull: PullConsumer,
        counters: Counter[str],
        slow_lane: SlowLane,
        *,
        put_off: Callable[[Msg, float], Awaitable[None]],
    ) -> None:
        self._name = name
        self._pull = pull
        self._counters = counters
        self._slow_lane = slow_lane
        self._put_off = put_off
        self._shares: Shares[Msg] = Shares(each=OF_ONE_DEVICE)
        # When messages that were put off come again, and how many.
        self._put_off_until: deque[tuple[float, int]] = deque()
        # By tenant, when it was last heard.
        self._heard: dict[Hashable, float] = {}

    def __len__(self) -> int:
        return len(self._shares)

    def __iter__(self) -> Iterator[Msg]:
        return iter(self._shares)

    def clear(self) -> None:
        self._shares.clear()

    def take(self, most: int) -> list[Msg]:
        return self._shares.take(most)

    async def read(self) -> None:
        """Read a batch if there is room for it, or if room can be made."""
        if self._is_full() and not await self._make_room():
            return
        now = time.monotonic()
        for message in await self._pull.batch(0.0 if self._shares else 1.0):
            sender = sender_of(message.subject)
            self._heard[sender.tenant] = now
            if not await self._slow_down(sender, message, now):
                self._shares.add(sender, message, len(message.data))

    async def _slow_down(self, sender: Sender, message: Msg, now: float) -> bool:
        lane = self._slow_lane
        if sender not in lane or message.metadata.num_delivered != 1:
            return False
        seconds = lane.delay(sender, now)
        if not seconds:
            return False
        self._counters[f"{self._name}.slowed_down"] += 1
        await self._put_off(message, seconds)
        return True

    def _is_full(self) -> bool:
        return len(self._shares) >= HELD or self._shares.bytes >= HELD_BYTES

    async def _make_room(self) -> bool:
        """Put off the surplus of a flooder, and return whether there was one."""
        now = time.monotonic()
        while self._put_off_until and self._put_off_until[0][0] < now:
            self._put_off_until.popleft()
        away = sum(number for _, number in self._put_off_until)
        if away >= MOST_PUT_OFF:
            return False
        self._heard = {name: at for name, at in self._heard.items() if at > now - HEARD_SECONDS}
        by_bytes = self._shares.bytes >= HELD_BYTES
        number = len(self._shares) - (len(self._shares) if by_bytes else HELD) // 2
        shed = self._shares.shed(number, by_bytes=by_bytes, of_tenant=len(self._heard) > 1)
        if not shed:
            return False
        least, most = PUT_OFF_SECONDS
        seconds = min(max(least, away / HANDLED_A_SECOND), most)
        self._put_off_until.append((now + seconds, len(shed)))
        self._counters[f"{self._name}.put_off"] += len(shed)
        for message in shed:
            await self._put_off(message, seconds)
        return True
