import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from wegweiser.quickstart import lock as lock_module
from wegweiser.quickstart.errors import AlreadyRunning
from wegweiser.quickstart.lock import HomeLock


def nothing() -> None:
    pass


def test_a_second_one_on_the_same_home_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "PATIENCE", 0.1)
    with (
        HomeLock(tmp_path).held(nothing),
        pytest.raises(AlreadyRunning, match="already runs on"),
        HomeLock(tmp_path).held(nothing),
    ):
        pass


def test_the_next_one_waits_for_one_that_is_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "PATIENCE", 0.0)
    first = HomeLock(tmp_path)
    holding = ExitStack()
    holding.enter_context(first.held(nothing))
    first.say_stopping()
    let_go = threading.Event()

    def stop() -> None:
        let_go.set()
        holding.close()

    threading.Timer(0.3, stop).start()
    with HomeLock(tmp_path).held(nothing):
        assert let_go.is_set()


def test_a_home_is_free_again_after_its_lock_is_let_go(tmp_path: Path) -> None:
    for _ in range(2):
        with HomeLock(tmp_path).held(nothing):
            pass
