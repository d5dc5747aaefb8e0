"""Pure: messages that wait, taken in turn by tenant and device.

A stream is read in the order in which it was written, so a device's flood would hold up whatever
was written after it. Here each device has a line of its own: who has little to say waits for at
most one batch of those who have much.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")


class Sender(NamedTuple):
    """Whose line a message waits in; both in the words of its subject."""

    tenant: Hashable
    device: Hashable


def sender_of(subject: str) -> Sender:
    """Return who has sent what arrived on `subject`, by the broker's word: the account, and where
    the subject names one the device. It need not be a subject that can be read."""
    parts = subject.split(".", 6)
    account = parts[1] if len(parts) > 1 else ""
    return Sender(account, parts[5] if len(parts) == 7 else "")


class _Line(Generic[Item]):
    """What waits of one device."""

    def __init__(self) -> None:
        self.items: deque[tuple[Item, int]] = deque()
        self.bytes = 0


class Shares(Generic[Item]):
    """`each` is the most of one device in a batch."""

    def __init__(self, *, each: int) -> None:
        self._each = each
        # Tenants, and of each its devices: the next to be served comes first.
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
        """A batch: of each tenant in turn one message, of its devices in turn, the oldest first.
        It is smaller than `most` rather than having more than its share of one device."""
        taken: list[Item] = []
        served: Counter[Sender] = Counter()
        # Those of which the batch has enough.
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
        """Take the newest messages of the device that has more than half of all that waits, to be
        put off until there is room; `of_tenant`: failing that, of the tenant that has, and there
        of the devices with the longest lines. Empty where nobody has so much."""
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
        """Return the tenant's next device of which the batch has not enough yet."""
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
    """How much of a buffer one device may take, and one tenant, by the subjects of live metrics:
    the last token is the metric's name, what is before it the device, the second the account."""

    def __init__(self, *, of_device: int, of_tenant: int) -> None:
        self._of_device = of_device
        self._of_tenant = of_tenant
        self._taken: Counter[str] = Counter()

    def takes(self, subject: str) -> bool:
        """Whether there is room for one more of this device; then it is counted."""
        device, account = self._names(subject)
        taken = self._taken
        if taken[device] >= self._of_device or taken[account] >= self._of_tenant:
            return False
        taken[device] += 1
        taken[account] += 1
        return True

    def returns(self, subject: str) -> None:
        """One of them waits no more."""
        for name in self._names(subject):
            self._taken[name] -= 1
            if self._taken[name] <= 0:
                del self._taken[name]

    @staticmethod
    def _names(subject: str) -> tuple[str, str]:
        return subject.rpartition(".")[0], subject.split(".", 2)[1]
