"""Messages are taken in turn, so nobody waits behind another's flood."""

from collections import Counter
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from natsbridge.rules.shares import Quota, Sender, Shares, sender_of

FLOODER, SIBLING = Sender("A", "flooder"), Sender("A", "sibling")
NEIGHBOUR = Sender("B", "neighbour")

Message = tuple[Sender, int]


def filled(*waiting: tuple[Sender, int], each: int = 100, size: int = 100) -> Shares[Message]:
    shares: Shares[Message] = Shares(each=each)
    for sender, count in waiting:
        for number in range(count):
            shares.add(sender, (sender, number), size)
    return shares


def test_what_a_neighbour_says_after_a_flood_is_in_the_next_batch() -> None:
    shares = filled((FLOODER, 10_000), (NEIGHBOUR, 3), (SIBLING, 1))
    batch = shares.take(500)
    for number in range(3):
        assert (NEIGHBOUR, number) in batch
    assert (SIBLING, 0) in batch


def test_a_batch_has_only_so_much_of_one_device() -> None:
    shares = filled((FLOODER, 10_000))
    assert len(shares.take(500)) == 100
    assert len(shares.take(50)) == 50
    assert len(shares) == 9_850


def test_a_tenant_with_many_devices_has_no_larger_share() -> None:
    devices = [(Sender("A", number), 50) for number in range(100)]
    shares = filled(*devices, (NEIGHBOUR, 50))
    batch = shares.take(100)
    assert Counter(sender.tenant for sender, _ in batch) == {"A": 50, "B": 50}


def test_of_one_tenant_each_device_has_its_turn() -> None:
    devices = [Sender("A", number) for number in range(20)]
    shares = filled((FLOODER, 1_000), *((device, 1) for device in devices))
    assert set(devices) <= {sender for sender, _ in shares.take(40)}


def test_shed_is_the_newest_of_who_has_more_than_all_others_together() -> None:
    shares = filled((FLOODER, 1_000), (SIBLING, 2), (NEIGHBOUR, 200))
    shed = shares.shed(300)
    assert {sender for sender, _ in shed} == {FLOODER}
    assert {number for _, number in shed} == set(range(700, 1_000))
    assert len(shares) == 902


def test_shed_is_of_who_has_most_of_the_bytes() -> None:
    shares = filled((NEIGHBOUR, 200), size=100)
    shares.add(FLOODER, (FLOODER, 0), 300_000)
    assert shares.shed(10, by_bytes=True) == [(FLOODER, 0)]


def test_a_line_that_grows_too_long_loses_its_oldest() -> None:
    shares = filled((FLOODER, 12), (NEIGHBOUR, 1))
    assert [number for _, number in shares.displace(FLOODER, 10)] == [0, 1]
    assert not shares.displace(FLOODER, 10)
    assert len(shares) == 11


def test_nothing_is_shed_of_a_backlog_that_has_no_flooder() -> None:
    shares = filled(*((Sender("A", number), 10) for number in range(100)))
    assert not shares.shed(10)
    shares = filled(*((Sender(number, "device"), 10) for number in range(100)))
    assert not shares.shed(10, of_tenant=True)


def test_a_tenant_that_floods_with_many_devices_loses_of_the_longest_lines() -> None:
    shares = filled(*((Sender("A", number), 1 + number) for number in range(100)), (NEIGHBOUR, 9))
    shed = shares.shed(500, of_tenant=True)
    assert len(shed) == 500
    assert {sender.tenant for sender, _ in shed} == {"A"}
    assert min(sender.device for sender, _ in shed) > 80  # type: ignore[type-var, operator]


def test_shed_ends_when_nothing_waits() -> None:
    shares = filled((FLOODER, 5))
    assert len(shares.shed(10)) == 5, "it has more than half"
    assert not shares.shed(10)
    assert (len(shares), shares.bytes) == (0, 0)


def test_whose_a_message_is_can_be_told_of_every_subject() -> None:
    account, tenant, device = "A" * 56, uuid4(), uuid4()
    start = f"ingest.{account}.tenant.{tenant}.device.{device}"
    for kind in ("response", "status.heartbeat"):
        assert sender_of(f"{start}.{kind}") == (account, str(device))
    assert sender_of(f"broker.{account}.connect") == (account, "")
    assert sender_of(f"dlq.{account}.failed") == (account, "")
    assert sender_of("") == ("", "")


def metric(account: str, device: str, name: str = "cpu_percent") -> str:
    return f"ingest.{account}.demo.system.{device}.{name}"


def test_a_flood_of_points_takes_a_part_of_the_buffer_and_no_more() -> None:
    quota = Quota(of_device=3, of_tenant=5)
    assert [quota.takes(metric("A", "one")) for _ in range(4)] == [True, True, True, False]
    assert not quota.takes(metric("A", "one", "uptime")), "whatever the metric"
    assert quota.takes(metric("A", "two"))
    assert quota.takes(metric("A", "three"))
    assert not quota.takes(metric("A", "four")), "the tenant has its part"
    assert quota.takes(metric("B", "four"))
    quota.returns(metric("A", "one"))
    assert quota.takes(metric("A", "one"))


senders = st.builds(Sender, st.sampled_from("AB"), st.integers(0, 2))
orders = st.lists(
    st.one_of(
        st.tuples(st.just("add"), senders),
        st.tuples(st.just("take"), st.integers(1, 12)),
        st.tuples(st.just("shed"), st.integers(1, 5)),
    )
)


@given(orders)
def test_nothing_is_lost_or_doubled_and_each_line_keeps_its_order(
    steps: list[tuple[str, Sender | int]],
) -> None:
    shares: Shares[Message] = Shares(each=3)
    waiting: dict[Sender, list[int]] = {}
    for number, (step, what) in enumerate(steps):
        if isinstance(what, Sender):
            shares.add(what, (what, number), number)
            waiting.setdefault(what, []).append(number)
        elif step == "take":
            batch = shares.take(what)
            assert batch or not len(shares)
            for sender, each in batch:
                assert waiting[sender].pop(0) == each
            assert all(count <= 3 for count in Counter(sender for sender, _ in batch).values())
        else:
            for sender, each in shares.shed(what):
                assert waiting[sender].pop() == each
        left = {(sender, each) for sender, line in waiting.items() for each in line}
        assert set(shares) == left
        assert len(shares) == len(left)
        assert shares.bytes == sum(each for _, each in left)
