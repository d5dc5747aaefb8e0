"""Register which rows belong to a tenant, and which of their fields leave with an export.

Apps register their models with `export_table` in their `exported` modules, which the first use
imports.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from django.db.models import Field, Model
from django.utils.module_loading import autodiscover_modules


@dataclass(frozen=True)
class Table:
    """One model in the export. `path` leads from its rows to the tenant's UUID.

    All fields are exported but those `withheld`, by name with the reason. `added` has further
    values by name, with the path to each.
    """

    model: type[Model]
    path: str
    withheld: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.model._meta.label_lower

    @property
    def fields(self) -> list[Field]:
        """The fields that are exported, without the primary key."""
        concrete = self.model._meta.concrete_fields
        return [
            each for each in concrete if not each.primary_key and each.name not in self.withheld
        ]


_tables: dict[str, Table] = {}


def export_table(
    model: type[Model],
    path: str,
    *,
    withheld: Mapping[str, str] | None = None,
    added: Mapping[str, str] | None = None,
) -> None:
    """Register a model whose rows are exported."""
    table = Table(model, path, withheld or {}, added or {})
    if table.label in _tables:
        raise ValueError(f"{table.label} is registered twice")
    _tables[table.label] = table


def tables() -> list[Table]:
    """Return all tables, those of the tenant itself first."""
    autodiscover_modules("exported")
    return list(_tables.values())
