"""Finds the static files once for all of Django's test clients, each of which would ask for all two
hundred of them before its first request."""

from collections.abc import Iterator

import pytest
from whitenoise.middleware import WhiteNoiseMiddleware

_find = WhiteNoiseMiddleware.add_files_from_finders
_found: dict[str, object] = {}


def add_files_found_before(middleware: WhiteNoiseMiddleware) -> None:
    """In the place of WhiteNoiseMiddleware.add_files_from_finders."""
    if not _found:
        _find(middleware)
        _found.update(middleware.files)
    middleware.files.update(_found)


@pytest.fixture(scope="session", autouse=True)
def quick_static_files() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WhiteNoiseMiddleware, "add_files_from_finders", add_files_found_before)
        yield
