from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.types.json import Json


class WrittenJSONField(models.JSONField):
    """JSON that is kept as it was written: `jsonb` loses the order of an object's keys, which is
    what a person compares with the device's own output.

    Postgres compares no two values of the type `json`: of the lookups only those that follow a key
    to its text work, and a query that selects one cannot be DISTINCT.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "json"

    def get_db_prep_value(
        self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False
    ) -> Any:
        return Json(self.get_prep_value(value))

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        """The driver has read it already."""
        return value
