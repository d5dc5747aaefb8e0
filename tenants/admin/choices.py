"""Choices of groups, named with their tenant and organisation."""

from django.db.models import QuerySet
from django.forms import ModelChoiceField
from unfold.widgets import UnfoldAdminSelect2Widget

from tenants.forms.choices import path_of
from tenants.models import Group


def groups_to_choose() -> QuerySet[Group]:
    return Group.objects.select_related("tenant", "organisation").order_by(
        "tenant__name", "organisation__name", "name"
    )


class GroupChoiceField(ModelChoiceField):
    """Offers every group, unless its `queryset` is narrowed."""

    widget = UnfoldAdminSelect2Widget

    def __init__(self) -> None:
        super().__init__(queryset=groups_to_choose())

    def label_from_instance(self, obj: Group) -> str:
        return path_of(obj)
