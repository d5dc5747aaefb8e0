from uuid import UUID

import pytest

from tenants.rules.request_ids import request_id_from


@pytest.mark.parametrize(
    "offered",
    ["a", "x" * 128, "0b8a-41d2", "Root=1-67891233-abcdef", "a/b+c=:._"],
)
def test_an_id_that_is_well_formed_is_kept(offered: str) -> None:
    assert request_id_from(offered) == offered


@pytest.mark.parametrize(
    "offered",
    [
        "",
        "x" * 129,
        "a b",
        "a\n",
        "a\r\nSet-Cookie: b",
        "a\0",
        "ä",
        "one,two",
        "<b>",
        '"',
        "\u202e",
    ],
)
def test_anything_else_is_replaced_by_a_new_one(offered: str) -> None:
    first, second = request_id_from(offered), request_id_from(offered)
    assert UUID(first) != UUID(second)
