from natsbridge.subscriber.breaker import LONGEST_SECONDS, PROBE_SECONDS, Breaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker("test", clock=clock)
    for _ in range(2):
        breaker.failed("connection refused")
    return breaker


def test_one_failure_is_borne() -> None:
    breaker = Breaker("test")
    breaker.failed("once")
    assert breaker.admits()
    breaker.succeeded()
    breaker.failed("and once again")
    assert not breaker.is_open


def test_while_it_is_open_one_probe_is_let_through_after_a_pause() -> None:
    clock = Clock()
    breaker = opened(clock)
    assert not breaker.admits()
    clock.now += 1.1
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert all(breaker.admits() for _ in range(3))


def test_the_pauses_grow_to_a_limit() -> None:
    clock = Clock()
    breaker = opened(clock)
    for _ in range(20):
        breaker.failed("still away")
    clock.now += LONGEST_SECONDS - 0.1
    assert not breaker.admits()
    clock.now += 0.2
    assert breaker.admits()


def test_a_probe_that_never_comes_back_does_not_keep_it_open_for_ever() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 2
    assert breaker.admits()
    clock.now += PROBE_SECONDS + 1
    assert breaker.admits()


def test_its_state_says_since_when_and_why() -> None:
    breaker = opened(Clock())
    state = breaker.state()
    assert (state["state"], state["reason"]) == ("open", "connection refused")
    breaker.succeeded()
    assert breaker.state() == {"state": "closed", "times_opened": 1}
