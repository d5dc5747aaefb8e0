"""The records of sign-ins that django-axes keeps, in the style of the other pages."""

from axes import admin as axes
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from unfold.admin import ModelAdmin

admin.site.unregister([AccessAttempt, AccessFailureLog, AccessLog])


@admin.register(AccessAttempt)
class AccessAttemptAdmin(ModelAdmin, axes.AccessAttemptAdmin):
    """Lets staff delete an attempt, so that its author can try again."""


@admin.register(AccessFailureLog)
class AccessFailureLogAdmin(ModelAdmin, axes.AccessFailureLogAdmin):
    pass


@admin.register(AccessLog)
class AccessLogAdmin(ModelAdmin, axes.AccessLogAdmin):
    pass
