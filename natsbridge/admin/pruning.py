"""Show what the last pruning deleted."""

from django.contrib import admin
from django.utils.safestring import SafeString

from natsbridge.admin.base import ReadOnlyAdmin, label, pretty_json
from natsbridge.models import Pruning


@admin.register(Pruning)
class PruningAdmin(ReadOnlyAdmin):
    list_display = ("finished_at", "rows", "state")
    fields = ("began_at", "finished_at", "rows", "state", "pretty_outcome")
    readonly_fields = fields

    @admin.display(description="State")
    def state(self, pruning: Pruning) -> SafeString:
        if pruning.problems:
            return label(f"Failed: {', '.join(pruning.problems)}", "danger")
        return label("Done", "success")

    @admin.display(description="Rows deleted")
    def rows(self, pruning: Pruning) -> int:
        return pruning.rows

    @admin.display(description="By kind")
    def pretty_outcome(self, pruning: Pruning) -> SafeString:
        return pretty_json(pruning.outcome)
