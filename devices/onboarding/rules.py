"""Pure: read the rows of an import, from CSV or JSON, and name what is wrong with each."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO
from typing import Any
from uuid import UUID

from devices.commands.rules import json_values
from devices.errors import RowError, UnfitJson
from natsbridge.protocol.storable import storable

MOST_ROWS = 10_000
# Of the errors this many are named, and all are counted.
MOST_ERRORS = 100
TOO_MANY = f"More than {MOST_ROWS:,} rows; import the others with another file."
DEFAULT_TYPE = "node-red"
COLUMNS = ("uuid", "name", "group", "hardware_info", "connection_type")
# Of the unknown fields of one item this many are named.
NAMED = 5
REQUIRED = ("uuid", "name")
LONGEST = {"name": 255, "group": 200, "connection_type": 20}
# A spreadsheet in Europe writes semicolons.
DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Row:
    """A device to import. `group` is a group's name or UUID, or empty for the import's own."""

    line: int
    uuid: UUID
    name: str
    group: str
    hardware_info: dict[str, Any]
    connection_type: str


@dataclass
class Rows:
    """What was read: the rows that can be used, and the errors of the others."""

    rows: list[Row] = field(default_factory=list)
    errors: list[RowError] = field(default_factory=list)


def read_csv(content: bytes) -> Rows:
    """Read CSV in UTF-8 whose first line names the columns."""
    found = Rows()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found.errors.append(RowError(line, "", "Not UTF-8; save the file as CSV UTF-8."))
        return found
    reader = csv.reader(StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        found.errors += _wrong_columns(columns)
        if not found.errors:
            _read_all(_csv_rows(reader, columns, found.errors), found)
    except csv.Error as error:
        found.errors.append(RowError(reader.line_num, "", f"Not CSV: {error}."))
    return found


def read_items(items: Iterable[Any]) -> Rows:
    """Read the items of a JSON list, whose lines are counted from 1."""
    found = Rows()
    _read_all(_item_rows(items, found.errors), found)
    return found


def _delimiter(text: str) -> str:
    header = text.partition("\n")[0]
    return max(DELIMITERS, key=header.count)


def _wrong_columns(columns: list[str]) -> Iterator[RowError]:
    for name in REQUIRED:
        if name not in columns:
            yield RowError(1, name, f"The first line has to name the column {name}.")
    for name in list(dict.fromkeys(columns))[: len(COLUMNS) + NAMED]:
        if name not in COLUMNS:
            yield _unknown(1, "column", name)
        elif columns.count(name) > 1:
            yield RowError(1, name, "The column is there twice.")


def _unknown(line: int, kind: str, name: str) -> RowError:
    shown = storable(name[:50])
    choices = ", ".join(COLUMNS)
    return RowError(line, shown, f'Unknown {kind} "{shown}". Choose from: {choices}.')


def _csv_rows(
    reader: Any, columns: list[str], errors: list[RowError]
) -> Iterator[tuple[int, dict[str, Any]]]:
    count = 0
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        count += 1
        if count > MOST_ROWS:
            errors.append(RowError(reader.line_num, "", TOO_MANY))
            return
        if len(cells) != len(columns):
            there = f"{len(cells)} cells where the first line has {len(columns)}."
            errors.append(RowError(reader.line_num, "", there))
            continue
        row: dict[str, Any] = dict(zip(columns, cells, strict=True))
        if text := row.pop("hardware_info", "").strip():
            try:
                row["hardware_info"] = json.loads(text)
            except (ValueError, RecursionError):
                error = RowError(reader.line_num, "hardware_info", "Not JSON.")
                errors.append(error)
                continue
        yield reader.line_num, row


def _item_rows(
    items: Iterable[Any], errors: list[RowError]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, item in enumerate(items, 1):
        if line > MOST_ROWS:
            errors.append(RowError(line, "", TOO_MANY))
            return
        if not isinstance(item, Mapping):
            errors.append(RowError(line, "", "Not a JSON object."))
        elif unknown := [str(name) for name in item if name not in COLUMNS]:
            errors += [_unknown(line, "field", name) for name in unknown[:NAMED]]
        else:
            yield line, item


def _read_all(lines: Iterable[tuple[int, Mapping[str, Any]]], found: Rows) -> None:
    seen: dict[UUID, int] = {}
    for line, values in lines:
        reader = _RowReader(line, values)
        row = reader.read()
        found.errors += reader.errors
        if row is None:
            continue
        if row.uuid in seen:
            twice = f"{row.uuid} is there twice, first in line {seen[row.uuid]}."
            found.errors.append(RowError(line, "uuid", twice))
            continue
        seen[row.uuid] = line
        found.rows.append(row)
    if not seen and not found.errors:
        found.errors.append(RowError(1, "", "No devices."))


class _RowReader:
    """Reads one row, and collects what is wrong with it."""

    def __init__(self, line: int, values: Mapping[str, Any]) -> None:
        self.errors: list[RowError] = []
        self._line = line
        self._values = values

    def read(self) -> Row | None:
        uuid = self._uuid()
        row = Row(
            self._line,
            uuid or UUID(int=0),
            self._text("name", required=True),
            self._text("group"),
            self._hardware_info(),
            self._connection_type(),
        )
        return None if self.errors else row

    def _uuid(self) -> UUID | None:
        text = self._text("uuid", required=True)
        try:
            return UUID(text) if text else None
        except ValueError:
            self._wrong("uuid", f'"{text[:50]}" is not a valid UUID.')
            return None

    def _text(self, column: str, *, required: bool = False) -> str:
        value = self._values.get(column)
        if value is not None and not isinstance(value, str):
            self._wrong(column, "Not a string.")
            return ""
        text = (value or "").strip()
        if text != storable(text):
            self._wrong(column, "It has a character that cannot be stored, such as NUL.")
            return ""
        if required and not text:
            self._wrong(column, "It is missing.")
        if len(text) > LONGEST.get(column, len(text)):
            self._wrong(column, f"Longer than {LONGEST[column]} characters.")
        return text

    def _connection_type(self) -> str:
        text = self._text("connection_type") or DEFAULT_TYPE
        if text == "nats":
            self._wrong(
                "connection_type",
                "A device speaks NATS here only once it has logged in; name what it uses now.",
            )
        elif not text.isascii() or not text.isprintable():
            self._wrong("connection_type", "Letters, digits and signs of ASCII only.")
        return text

    def _hardware_info(self) -> dict[str, Any]:
        value = self._values.get("hardware_info")
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._wrong("hardware_info", "Not a JSON object.")
            return {}
        try:
            json_values.check(value)
        except UnfitJson as error:
            self._wrong("hardware_info", str(error))
        return value

    def _wrong(self, column: str, detail: str) -> None:
        self.errors.append(RowError(self._line, column, detail))
