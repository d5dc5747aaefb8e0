"""Fields and serializers that several resources take; each limit is that of the column."""

from datetime import timedelta
from typing import Any, Generic, NoReturn, TypeVar, cast

from django.db.models import Model, QuerySet
from django.db.models import UUIDField as UUIDModelField
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.validators import UniqueValidator

from tenants.api.base.permissions import manages, needed_role, reachable, require
from tenants.forms.credentials import REASON_MAX
from tenants.models import tenant_of
from tenants.rules.durations import USUAL_OVERLAP, parse_overlap

UNKNOWN_NAMED = 20
Row = TypeVar("Row", bound=Model)


class StrictFields(serializers.Serializer[Any]):
    """Reject unknown and read-only fields by name, so that none is silently ignored."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        value: dict[str, Any] = super().to_internal_value(data)
        given = set(map(str, data))
        readable = {name for name, field in self.fields.items() if field.read_only}
        wrong = {name[:100]: "Unknown field." for name in given - set(self.fields)}
        wrong |= dict.fromkeys(given & readable, "This field is read-only.")
        if wrong:
            raise serializers.ValidationError(dict(sorted(wrong.items())[:UNKNOWN_NAMED]))
        return value


class StrictSerializer(StrictFields):
    """Check a body that is not a row. By itself it stands for an empty body."""


class RowSerializer(StrictFields, serializers.ModelSerializer[Row], Generic[Row]):
    """Represent a row, and check what is written to it. Only actions write it.

    Unique names are not checked here: the action finds the one that was faster, too.
    """

    def get_fields(self) -> dict[str, Any]:
        """Return the fields; `create_only_fields` of its Meta cannot be changed later."""
        fields = super().get_fields()
        action = getattr(self.context.get("view"), "action", None)
        if self.instance is not None or action == "partial_update":
            for name in getattr(self.Meta, "create_only_fields", ()):
                fields[name].read_only = True
        return fields

    def get_unique_together_validators(self) -> list[Any]:
        return []

    def build_standard_field(self, field_name: str, model_field: Any) -> Any:
        field, kwargs = super().build_standard_field(field_name, model_field)
        unique = [
            each for each in kwargs.get("validators", ()) if isinstance(each, UniqueValidator)
        ]
        if unique:
            kwargs["validators"] = [each for each in kwargs["validators"] if each not in unique]
        return field, kwargs

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        value = super().to_internal_value(data)
        if self.partial and not value:
            raise serializers.ValidationError(
                {"non_field_errors": "Name at least one field to change."}
            )
        return value

    def save(self, **kwargs: Any) -> Row:
        raise TypeError(f"An action saves what {type(self).__name__} has checked.")


class VisibleField(serializers.PrimaryKeyRelatedField[Any]):
    """Accept the id of a row that the caller may see; another tenant's is an unknown one.

    In the row's tenant the caller needs the role that the view's action needs.
    """

    default_error_messages = {
        "does_not_exist": "There is no {model} {pk_value}.",
    }

    def __init__(self, model: type[Model], **kwargs: Any) -> None:
        self.model: Any = model
        if isinstance(model._meta.pk, UUIDModelField):
            kwargs.setdefault("pk_field", serializers.UUIDField())
        super().__init__(**kwargs)

    def get_queryset(self) -> QuerySet[Any]:
        return reachable(self.model, self.context["request"], self.context.get("view"))

    def to_internal_value(self, data: Any) -> Any:
        row = super().to_internal_value(data)
        request, view = self.context["request"], self.context["view"]
        if not manages(request, view):
            require(request, tenant_of(row), needed_role(request, view))
        return row

    def fail(self, key: str, **kwargs: Any) -> NoReturn:
        super().fail(key, model=self.model._meta.verbose_name, **kwargs)


class BoundedListField(serializers.ListField):
    """Check the number of items before any item, since an error for each would be expensive."""

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list) and self.max_length and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return super().to_internal_value(data)


class ReasonSerializer(StrictSerializer):
    reason = serializers.CharField(max_length=REASON_MAX)


@extend_schema_field(OpenApiTypes.STR)
class OverlapField(serializers.CharField):
    def to_internal_value(self, data: Any) -> timedelta:  # type: ignore[override]
        try:
            return parse_overlap(super().to_internal_value(data))
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from error


class OverlapSerializer(StrictSerializer):
    overlap = OverlapField(
        required=False,
        default=cast(str, USUAL_OVERLAP),
        help_text="Seconds, or 90m, 24h, 7d; default 24h.",
    )
