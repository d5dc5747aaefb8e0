"""Execute one statement for many rows, for what arrives by the thousand."""

from collections.abc import Iterable
from typing import Any

import msgspec
from django.db import connection


def execute_many(statement: str, rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Execute a statement that takes one array for each column, and return its rows."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    if not columns:
        return []
    with connection.cursor() as cursor:
        cursor.execute(statement, columns)
        return cursor.fetchall() if cursor.description else []


def as_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
