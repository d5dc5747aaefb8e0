"""Execute one statement for many rows, and many queries over one state of the database."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from django.db import connection, transaction


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


@contextmanager
def snapshot() -> Iterator[None]:
    """Open a transaction in which every query sees the database as it was at the first one."""
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield
