"""Who sends too much is found by what the servers count, and nobody else is."""

from natsbridge.rules.metering import Allowance, ConnectionKey, Meter, Traffic

ALLOWANCE = Allowance(messages=500, messages_burst=20_000, bytes=4_000_000, bytes_burst=64_000_000)


class Sending:
    """Connections that send at steady rates, by number, and a meter that looks twice a second."""

    def __init__(self, owners: dict[int, str | None]) -> None:
        self.meter: Meter[str] = Meter(ALLOWANCE)
        self.owners = owners
        self.now = 1000.0
        self.began = dict.fromkeys(owners, self.now)
        self.sent: dict[int, float] = dict.fromkeys(owners, 0.0)
        self.asked: list[int] = []

    def look(self, rates: dict[int, float], *, size: int = 100, seconds: float = 0.5) -> set[str]:
        """Those over their allowance after so many seconds."""
        self.now += seconds
        for number, rate in rates.items():
            self.sent[number] += rate * seconds
        unknown = self.meter.observe(
            [
                Traffic(key(number), self.now - self.began[number], int(sent), int(sent) * size)
                for number, sent in self.sent.items()
            ],
            self.now,
        )
        self.asked += [number for _, number in unknown]
        for server, number in unknown:
            self.meter.identify((server, number), self.owners[number])
        return set(self.meter.excesses(self.now))

    def until_found(self, rates: dict[int, float], *, size: int = 100, most: float = 60.0) -> float:
        """Seconds until somebody is found."""
        before = self.now
        while not self.look(rates, size=size):
            assert self.now - before < most
        return self.now - before


def key(number: int) -> ConnectionKey:
    return ("S", number)


def test_a_flood_is_found_at_the_first_look_and_its_neighbour_is_not() -> None:
    sending = Sending({1: "flooder", 2: "neighbour"})
    assert sending.look({1: 100_000, 2: 3}) == {"flooder"}


def test_a_device_that_sends_what_it_has_kept_is_left_in_peace() -> None:
    sending = Sending({1: "device"})
    for _ in range(8):
        assert not sending.look({1: 5_000})
    for _ in range(200):
        assert not sending.look({1: 400})


def test_a_little_too_much_is_found_when_it_lasts() -> None:
    assert 30 < Sending({1: "device"}).until_found({1: 1_000}) < 60


def test_several_connections_of_one_device_count_together() -> None:
    sending = Sending({1: "device", 2: "device", 3: "device"})
    assert sending.until_found(dict.fromkeys((1, 2, 3), 400)) < 40


def test_few_but_large_messages_are_found() -> None:
    assert Sending({1: "device"}).until_found({1: 400}, size=320_000) <= 1.0


def test_the_platforms_own_connections_may_send_as_much_as_they_like() -> None:
    sending = Sending({1: None})
    for _ in range(20):
        assert not sending.look({1: 50_000})
    assert sending.asked == [1], "it is asked for once"


def test_only_busy_connections_are_asked_for_their_owner() -> None:
    sending = Sending({number: f"device {number}" for number in range(100)})
    for _ in range(10):
        sending.look(dict.fromkeys(range(100), 3))
    assert not sending.asked


def test_what_an_old_connection_has_sent_long_ago_is_not_held_against_it() -> None:
    sending = Sending({1: "device"})
    sending.sent[1], sending.began[1] = 5_000_000, sending.now - 86_400
    assert not sending.look({1: 400})
    assert not sending.look({1: 400})
    assert sending.until_found({1: 100_000}) <= 1.0


def test_one_that_was_disconnected_and_goes_on_is_found_sooner() -> None:
    sending = Sending({1: "flooder", 2: "flooder"})
    assert sending.look({1: 100_000}) == {"flooder"}
    sending.meter.disconnected("flooder", [key(1)])
    assert not sending.look({})
    assert sending.look({2: 6_000}) == {"flooder"}, "3,000 are a small part of a burst"


def test_one_that_was_disconnected_and_has_calmed_down_is_forgiven() -> None:
    sending = Sending({1: "flooder", 2: "flooder"})
    sending.look({1: 100_000})
    sending.meter.disconnected("flooder", [key(1)])
    for _ in range(100):
        assert not sending.look({2: 3})
    assert not sending.look({2: 6_000})


def test_one_that_is_suspect_is_found_sooner() -> None:
    sending = Sending({1: "other connection"})
    sending.meter.suspect("other connection", sending.now)
    assert sending.look({1: 6_000}) == {"other connection"}


def test_one_that_is_suspect_and_sends_little_is_left_in_peace() -> None:
    sending = Sending({1: "other connection"})
    sending.meter.suspect("other connection", sending.now)
    for _ in range(100):
        assert not sending.look({1: 400})


def test_a_flood_over_connections_that_end_before_anybody_looks_is_found() -> None:
    """They are listed for a while after their end."""
    sending = Sending(dict.fromkeys(range(100), "flooder"))
    for start in range(0, 100, 10):
        for number in range(start, start + 10):
            sending.began[number] = sending.now
            sending.sent[number] = 4_000.0
        if sending.look({}):
            return
    raise AssertionError("not found")
