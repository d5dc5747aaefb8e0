"""Queue messages by tenant and device, and take them in turn.

A stream is read in the order in which it was written, so one device's flood would hold up all that
was written after it. Here each device has a line of its own, and a device that sends little waits
for at most one batch of those that send much.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")


class Sender(NamedTuple):
    """The sender of a message, as its subject names it; each sender has a line."""

    tenant: Hashable
    device: Hashable


def sender_of(subject: str) -> Sender:
    """Return the account and the device of a subject, even of one that cannot be parsed.

    The broker has verified the account. The device is empty where the subject names none.
    """
    parts = subject.split(".", 6)
    account = parts[1] if len(parts) > 1 else ""
    return Sender(account, parts[5] if len(parts) == 7 else "")


class _Line(Generic[Item]):
    """The waiting messages of one device."""

    def __init__(self) -> None:
        self.items: deque[tuple[Item, int]] = deque()
        self.bytes = 0


class Shares(Generic[Item]):
    """Waiting messages, of which a batch has at most `each` of one device."""

    def __init__(self, *, each: int) -> None:
        self._each = each
        # By tenant and device; the next one to be served comes first.
        self._tenants: OrderedDict[Hashable, OrderedDict[Hashable, _Line[Item]]] = OrderedDict()
        self._size = 0
        self.bytes = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Item]:
        for lines in self._tenants.values():
            for line in lines.values():
                for item, _ in line.items:
                    yield item

    def add(self, sender: Sender, item: Item, size: int) -> None:
        lines = self._tenants.setdefault(sender.tenant, OrderedDict())
        line = lines.setdefault(sender.device, _Line())
        line.items.append((item, size))
        line.bytes += size
        self._size += 1
        self.bytes += size

    def take(self, most: int) -> list[Item]:
        """Take a batch: one message of each tenant in turn, of its devices in turn, oldest first.

        The batch is smaller than `most` rather than have too many of one device.
        """
        taken: list[Item] = []
        served: Counter[Sender] = Counter()
        # Tenants of which the batch has enough.
        aside: list[tuple[Hashable, OrderedDict[Hashable, _Line[Item]]]] = []
        while len(taken) < most and self._tenants:
            tenant, lines = next(iter(self._tenants.items()))
            device = self._next_of(tenant, lines, served)
            if device is None:
                aside.append((tenant, self._tenants.pop(tenant)))
                continue
            sender = Sender(tenant, device)
            served[sender] += 1
            taken.append(self._take(sender))
            if device in lines:
                lines.move_to_end(device)
            if lines:
                self._tenants.move_to_end(tenant)
        self._tenants.update(aside)
        return taken

    def shed(self, number: int, *, by_bytes: bool = False, of_tenant: bool = False) -> list[Item]:
        """Take the newest messages of a device that has more than half of all that waits.

        With `of_tenant`, if there is no such device, take them from a tenant that has more than
        half, from its longest lines. Otherwise take none.
        """
        whole = self.bytes if by_bytes else self._size
        for tenant, lines in self._tenants.items():
            weights = {
                device: line.bytes if by_bytes else len(line.items)
                for device, line in lines.items()
            }
            heaviest = max(weights, key=weights.__getitem__)
            if 2 * weights[heaviest] > whole:
                return self._newest(Sender(tenant, heaviest), number)
            if of_tenant and 2 * sum(weights.values()) > whole:
                shed: list[Item] = []
                for device in sorted(weights, key=weights.__getitem__, reverse=True):
                    half = (len(lines[device].items) + 1) // 2
                    shed += self._newest(Sender(tenant, device), min(half, number - len(shed)))
                return shed
        return []

    def _newest(self, sender: Sender, number: int) -> list[Item]:
        line = self._tenants[sender.tenant][sender.device]
        return [self._take(sender, newest=True) for _ in range(min(number, len(line.items)))]

    def displace(self, sender: Sender, most: int) -> list[Item]:
        """Take the oldest messages of a line that is longer than `most`."""
        surplus = len(self._tenants[sender.tenant][sender.device].items) - most
        return [self._take(sender) for _ in range(surplus)]

    def clear(self) -> None:
        self._tenants.clear()
        self._size = self.bytes = 0

    def _next_of(
        self,
        tenant: Hashable,
        lines: OrderedDict[Hashable, _Line[Item]],
        served: Mapping[Sender, int],
    ) -> Hashable | None:
        """Return the tenant's next device that the batch may have more of."""
        for _ in range(len(lines)):
            device = next(iter(lines))
            if served.get(Sender(tenant, device), 0) < self._each:
                return device
            lines.move_to_end(device)
        return None

    def _take(self, sender: Sender, *, newest: bool = False) -> Item:
        lines = self._tenants[sender.tenant]
        line = lines[sender.device]
        item, size = line.items.pop() if newest else line.items.popleft()
        line.bytes -= size
        self._size -= 1
        self.bytes -= size
        if not line.items:
            del lines[sender.device]
        if not lines:
            del self._tenants[sender.tenant]
        return item


class Quota:
    """Limits how much of a buffer one device and one tenant may take, by subjects of live metrics.

    In such a subject the second token is the account, the last one the name of the metric, and
    what comes before the last one identifies the device.
    """

    def __init__(self, *, of_device: int, of_tenant: int) -> None:
        self._of_device = of_device
        self._of_tenant = of_tenant
        self._taken: Counter[str] = Counter()

    def takes(self, subject: str) -> bool:
        """Count one more message if there is room for it, and return whether there was."""
        device, account = self._names(subject)
        taken = self._taken
        if taken[device] >= self._of_device or taken[account] >= self._of_tenant:
            return False
        taken[device] += 1
        taken[account] += 1
        return True

    def returns(self, subject: str) -> None:
        """Count one message less."""
        for name in self._names(subject):
            self._taken[name] -= 1
            if self._taken[name] <= 0:
                del self._taken[name]

    @staticmethod
    def _names(subject: str) -> tuple[str, str]:
        return subject.rpartition(".")[0], subject.split(".", 2)[1]
