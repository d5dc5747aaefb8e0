"""Statements about many rows at once, for what comes by the thousand."""

from collections.abc import Iterable
from typing import Any

import msgspec
from django.db import connection


def execute_many(statement: str, rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Execute a statement that takes one array a column. Return what it returns."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    if not columns:
        return []
    with connection.cursor() as cursor:
        cursor.execute(statement, columns)
        return cursor.fetchall() if cursor.description else []


def as_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
