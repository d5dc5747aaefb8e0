from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.types.json import Json


class WrittenJSONField(models.JSONField):
    """JSON stored as it was written. `jsonb` loses the order of keys, by which a person compares a
    value with the device's own output.

    Postgres cannot compare values of the type `json`: only lookups that follow a key to its text
    work, and a query that selects such a column cannot be DISTINCT.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "json"

    def get_db_prep_value(
        self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False
    ) -> Any:
        return Json(self.get_prep_value(value))

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        """Return the value as it is; the driver has already decoded it."""
        return value
