"""The permission matrix has a row for every endpoint that the project serves, and no other."""

from collections.abc import Collection

from tests.suites.permissions.endpoints import endpoints
from tests.suites.permissions.table import MATRIX


def unlisted(served: Collection[str], listed: Collection[str]) -> list[str]:
    return [
        *(
            f"{each}: add a row to tests/suites/permissions"
            for each in served
            if each not in listed
        ),
        *(f"{each}: is not served any more" for each in listed if each not in served),
    ]


def test_every_endpoint_has_a_row() -> None:
    served = endpoints()
    assert len(served) > 40
    assert unlisted(served, MATRIX) == []


def test_a_forgotten_endpoint_is_found_and_one_that_is_gone() -> None:
    assert len(unlisted(["GET /api/new"], ["GET /api/old"])) == 2
