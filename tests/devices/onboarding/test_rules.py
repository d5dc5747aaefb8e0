"""Reading the rows of an import: what is taken, and what is named as wrong, line by line."""

import json
from uuid import UUID

import pytest

from devices.onboarding import rules

FIRST = UUID("00000000-0000-4000-8000-000000000001")
SECOND = UUID("00000000-0000-4000-8000-000000000002")


def csv(*lines: str) -> rules.Rows:
    return rules.read_csv("\n".join(lines).encode())


def errors(found: rules.Rows) -> list[str]:
    return [str(error) for error in found.errors]


def test_a_file_with_all_columns_is_read() -> None:
    found = csv(
        "uuid,name,group,hardware_info,connection_type",
        f'{FIRST},anna-laptop,Laptops,"{{""cpu"": ""x86""}}",websocket',
        "",
        f" {SECOND} , berta ,,,",
    )
    assert not found.errors
    assert found.rows == [
        rules.Row(2, FIRST, "anna-laptop", "Laptops", {"cpu": "x86"}, "websocket"),
        rules.Row(4, SECOND, "berta", "", {}, "node-red"),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_spreadsheets_write_is_read(delimiter: str) -> None:
    text = f"\ufeffName{delimiter}UUID\r\nanna{delimiter}{FIRST}\r\n"
    found = rules.read_csv(text.encode())
    assert [(row.name, row.uuid) for row in found.rows] == [("anna", FIRST)]


def test_every_error_is_named_with_its_line_and_column() -> None:
    found = csv(
        "uuid,name,hardware_info,connection_type",
        "nonsense,,,",
        f"{FIRST},anna,[1],nats",
        f"{FIRST},berta,,",
        f"{FIRST},clara,,",
        f"{SECOND},dora",
        f"{SECOND},{'e' * 256},{{,",
    )
    assert errors(found) == [
        'line 2, uuid: "nonsense" is not a valid UUID.',
        "line 2, name: It is missing.",
        "line 3, hardware_info: Not a JSON object.",
        "line 3, connection_type: A device speaks NATS here only once it has logged in; name what "
        "it uses now.",
        f"line 5, uuid: {FIRST} is there twice, first in line 4.",
        "line 6: 2 cells where the first line has 4.",
        "line 7, hardware_info: Not JSON.",
    ]
    assert [row.name for row in found.rows] == ["berta"]


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ([""], "line 1, uuid: The first line has to name the column uuid."),
        (["uuid,name"], "line 1: No devices."),
        (["uuid,name,colour"], 'line 1, colour: Unknown column "colour". Choose from: uuid, name,'),
        (["uuid,name,name"], "line 1, name: The column is there twice."),
        (["uuid,name", f'{FIRST},"anna'], "line 2: Not CSV: unexpected end of data."),
    ],
)
def test_a_file_that_cannot_be_read_says_why(lines: list[str], error: str) -> None:
    assert errors(csv(*lines))[0].startswith(error)


def test_a_file_in_another_encoding_says_in_which_line() -> None:
    found = rules.read_csv("uuid,name\nx,jürgen".encode("latin-1"))
    assert errors(found) == ["line 2: Not UTF-8; save the file as CSV UTF-8."]


def test_what_postgres_cannot_store_is_refused() -> None:
    info = json.dumps({"cpu": "\0"})
    found = rules.read_items([{"uuid": str(FIRST), "name": "a", "hardware_info": json.loads(info)}])
    assert errors(found) == ["line 1, hardware_info: NUL characters are not allowed."]


def test_json_items_are_read_like_lines() -> None:
    found = rules.read_items(
        [
            {"uuid": str(FIRST), "name": "anna", "group": None},
            {"uuid": 7, "name": ["x"]},
            {"uuid": str(SECOND), "name": "berta", "tenant": "x"},
            "nonsense",
        ]
    )
    assert [row.name for row in found.rows] == ["anna"]
    assert [(error.line, error.column) for error in found.errors] == [
        (2, "uuid"),
        (2, "name"),
        (3, "tenant"),
        (4, ""),
    ]


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
@pytest.mark.parametrize("column", ["name", "group"])
def test_text_that_postgres_cannot_store_is_refused(column: str, text: str) -> None:
    found = rules.read_items([{"uuid": str(FIRST), "name": "a", column: text}])
    assert [(error.line, error.column) for error in found.errors] == [(1, column)]


def test_the_errors_of_unknown_fields_are_few_and_short() -> None:
    found = rules.read_items([{f"{number}{'x' * 10_000}": 1 for number in range(100)}])
    assert 0 < sum(len(str(error)) for error in found.errors) < 2_000


@pytest.mark.parametrize("wrong", ["a\0b", "a\ud800b"])
def test_text_that_cannot_be_stored_is_refused_and_not_repeated(wrong: str) -> None:
    found = rules.read_items(
        [
            {"uuid": wrong, "name": wrong, "group": wrong, "connection_type": wrong},
            {wrong: "x"},
        ]
    )
    columns = [error.column for error in found.errors]
    assert columns[:4] == ["uuid", "name", "group", "connection_type"]
    for error in found.errors:
        assert wrong not in str(error)
        str(error).encode()


@pytest.mark.parametrize("row", ["{uuid},a", "nonsense"])
def test_one_import_has_a_most_whatever_its_rows_are(
    row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MOST_ROWS", 1)
    found = csv("uuid,name", *(row.format(uuid=uuid) for uuid in (FIRST, SECOND, FIRST, FIRST)))
    assert errors(found)[-1] == f"line 3: {rules.TOO_MANY}"
    assert len(found.errors) <= 2
    found = rules.read_items([row] * 100)
    assert errors(found) == ["line 1: Not a JSON object.", f"line 2: {rules.TOO_MANY}"]
    found = rules.read_items([{f"field-{number}": 1 for number in range(1000)}])
    assert len(found.errors) == rules.NAMED
