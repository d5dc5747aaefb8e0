"""The query string of the fleet page: the filters of devices, and an order."""

from django.db.models import F
from django.db.models.fields.json import KeyTextTransform
from django_filters import ChoiceFilter

from devices.filters.devices import DeviceFilters
from devices.models.device import SYSTEM_INFO, DeviceQuerySet

SORTS: dict[str, tuple[F | KeyTextTransform, ...]] = {
    "name": (F("name"),),
    "tenant": (F("tenant__name"), F("group__organisation__name"), F("group__name")),
    "platform": (KeyTextTransform("platform", SYSTEM_INFO),),
    "version": (F("connectivity__agent_version"),),
    "seen": (F("connectivity__last_seen_online"),),
}


class FleetFilters(DeviceFilters):
    sort = ChoiceFilter(
        method="sorted_by", choices=[(key, key) for name in SORTS for key in (name, f"-{name}")]
    )

    def sorted_by(self, devices: DeviceQuerySet, name: str, key: str) -> DeviceQuerySet:
        order = [
            field.desc(nulls_last=True) if key.startswith("-") else field.asc(nulls_last=True)
            for field in SORTS[key.lstrip("-")]
        ]
        return devices.order_by(*order, "uuid")

    @property
    def active(self) -> bool:
        """Whether a filter is set."""
        return self.given not in ([], ["sort"])
