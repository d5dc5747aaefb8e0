"""Filters by what people record about devices: tags and custom fields."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django import forms
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Lower
from django_filters import Filter
from drf_spectacular.utils import extend_schema_field

from devices.inventory.rules import (
    LONGEST_TEXT,
    Comparison,
    FieldType,
    UnfitValue,
    Value,
    compares,
    read_filter_name,
    read_value,
)
from devices.models import CustomField, DeviceTag, Tag
from devices.models.device import DeviceQuerySet
from natsbridge.protocol.storable import storable
from tenants.models import User

PREFIX = "field."
MOST_TAGS = 20
MOST_FIELDS = 20
TOO_MANY_FIELDS = f"At most {MOST_FIELDS} filters by custom fields."


class TagsField(forms.Field):
    """Read the names or the ids of tags; each is to be on the device."""

    widget = forms.SelectMultiple

    def __init__(self, *, person: User, **options: Any) -> None:
        super().__init__(**options)
        self.person = person

    def clean(self, value: Any) -> list[set[UUID]]:
        """Return the tags of each name: several tenants may have one of this name."""
        given = [str(each) for each in ([value] if isinstance(value, str) else value or []) if each]
        if not given:
            return []
        if len(given) > MOST_TAGS:
            raise forms.ValidationError(f"At most {MOST_TAGS} tags.")
        lowered = {storable(each).lower() for each in given}
        ids = {uuid for each in given if (uuid := _uuid(each))}
        visible = Tag.objects.visible_to(self.person).annotate(lowered=Lower("name"))
        rows = list(visible.filter(Q(lowered__in=lowered) | Q(pk__in=ids)))
        found = [
            {tag.pk for tag in rows if tag.lowered == each.lower() or tag.pk == _uuid(each)}
            for each in given
        ]
        for each, tags in zip(given, found, strict=True):
            if not tags:
                raise forms.ValidationError(f'There is no tag "{each[:60]}".')
        return found


@extend_schema_field({"type": "array", "items": {"type": "string"}})
class TagFilter(Filter):
    """Filter by tags, by name or id; a device has all of those that are given."""

    field_class = TagsField

    @property
    def field(self) -> Any:
        self.extra["person"] = self.parent.request.user
        return super().field

    def filter(self, qs: DeviceQuerySet, value: Sequence[set[UUID]]) -> DeviceQuerySet:
        for tags in value:
            qs = qs.filter(Exists(DeviceTag.objects.filter(device=OuterRef("pk"), tag__in=tags)))
        return qs


class Wanted(NamedTuple):
    """A value of one of the fields that have this name, each in a tenant of its own."""

    field: CustomField
    value: Value | bool


class ValueField(forms.CharField):
    """Read a value as those fields do that have the name and can be compared so."""

    def __init__(
        self, *, name: str, comparison: Comparison, fields: Sequence[CustomField], **options: Any
    ) -> None:
        super().__init__(max_length=LONGEST_TEXT, **options)
        self.name, self.comparison = name, comparison
        self.fields = fields

    def clean(self, value: Any) -> list[Wanted]:
        text = super().clean(value)
        if not self.fields:
            raise forms.ValidationError(f'There is no custom field "{self.name[:60]}".')
        able = [each for each in self.fields if compares(FieldType(each.type), self.comparison)]
        if not able:
            raise forms.ValidationError(
                f'"{self.name}" is a {self.fields[0].type}, which has no __{self.comparison}.'
            )
        wanted, problem = [], ""
        for field in able if text else ():
            try:
                wanted.append(Wanted(field, self._read(field, text)))
            except UnfitValue as error:
                problem = str(error)
        if problem and not wanted:
            raise forms.ValidationError(problem)
        return wanted

    def _read(self, field: CustomField, text: str) -> Value | bool:
        if self.comparison is Comparison.EMPTY:
            if text not in ("true", "false"):
                raise UnfitValue(f'"{text[:60]}" is neither true nor false.')
            return text == "true"
        return read_value(FieldType(field.type), field.choices, text)


class CustomFieldFilter(Filter):
    """Filter by the values of the custom fields of one name."""

    field_class = ValueField

    def filter(self, qs: DeviceQuerySet, value: Sequence[Wanted]) -> DeviceQuerySet:
        matching = Q()
        for wanted in value:
            matching |= self._condition(wanted)
        return qs.filter(matching) if value else qs

    def _condition(self, wanted: Wanted) -> Q:
        key, values = wanted.field.key, "custom_values"
        match self.extra["comparison"]:
            case Comparison.EMPTY:
                held = Q(**{f"{values}__has_key": key})
                return Q(tenant=wanted.field.tenant_id) & (~held if wanted.value else held)
            case Comparison.AT_LEAST | Comparison.AT_MOST as comparison:
                return Q(**{f"{values}__{key}__{comparison}": wanted.value})
            case Comparison.CONTAINS:
                return Q(**{f"{values}__{key}__icontains": wanted.value})
        if wanted.field.type == FieldType.TEXT:
            return Q(**{f"{values}__{key}__iexact": wanted.value})
        return Q(**{f"{values}__contains": {key: wanted.value}})


def filters_given(person: User, data: Mapping[str, Any]) -> dict[str, CustomFieldFilter]:
    """Return a filter for each `field.NAME` in a query, also for names that no field has.

    More than MOST_FIELDS are wrong, which the form says.
    """
    names = [name for name in data if name.startswith(PREFIX)][:MOST_FIELDS]
    asked = {name: read_filter_name(name.removeprefix(PREFIX)) for name in names}
    lowered = {storable(each.field).lower() for each in asked.values()}
    known = _by_name(_visible(person).filter(lowered__in=lowered)) if lowered else {}
    return {
        name: CustomFieldFilter(
            name=each.field,
            comparison=each.comparison,
            fields=known.get(each.field.lower(), []),
            label=each.field,
        )
        for name, each in asked.items()
    }


def filters_offered(fields: Iterable[CustomField]) -> dict[str, CustomFieldFilter]:
    """Return the filters that a page offers for these fields, with an input for each."""
    offered = {}
    for named in _by_name(fields).values():
        field = named[0]
        for comparison, label, widget in _inputs(field):
            ending = f"__{comparison}" if comparison else ""
            offered[f"{PREFIX}{field.name}{ending}"] = CustomFieldFilter(
                name=field.name,
                comparison=comparison,
                fields=named,
                label=label,
                widget=widget,
            )
    return offered


def _inputs(field: CustomField) -> list[tuple[Comparison, str, forms.Widget]]:
    match FieldType(field.type):
        case FieldType.CHOICE:
            choices = [("", "Any"), *((each, each) for each in field.choices)]
            return [(Comparison.EQUAL, field.name, forms.Select(choices=choices))]
        case FieldType.TEXT:
            return [(Comparison.CONTAINS, field.name, forms.TextInput())]
        case FieldType.DATE:
            return [
                (Comparison.AT_LEAST, f"{field.name} from", _date_input()),
                (Comparison.AT_MOST, f"{field.name} to", _date_input()),
            ]
    return [
        (Comparison.AT_LEAST, f"{field.name} from", forms.NumberInput(attrs={"step": "any"})),
        (Comparison.AT_MOST, f"{field.name} to", forms.NumberInput(attrs={"step": "any"})),
    ]


def _date_input() -> forms.DateInput:
    return forms.DateInput(attrs={"type": "date"})


def _visible(person: User) -> QuerySet[Any]:
    return CustomField.objects.visible_to(person).annotate(lowered=Lower("name"))


def _by_name(fields: Iterable[CustomField]) -> dict[str, list[CustomField]]:
    named: dict[str, list[CustomField]] = {}
    for field in fields:
        named.setdefault(field.name.lower(), []).append(field)
    return named


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
