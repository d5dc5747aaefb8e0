from django.conf import settings
from django.db import migrations, models

# What failed for want of a response was known by the words of its error.
MARK_UNANSWERED = """
    UPDATE devices_command SET unanswered = true WHERE state = 'failed' AND error = 'no response'
"""


class Migration(migrations.Migration):
    dependencies = [
        ("devices", "0006_capabilities_at"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            "command", "unanswered", models.BooleanField(default=False, db_default=False)
        ),
        migrations.AddField(
            "command",
            "idempotency_key",
            models.CharField(blank=True, db_default="", default="", max_length=100),
        ),
        migrations.AddConstraint(
            "command",
            models.UniqueConstraint(
                condition=models.Q(("idempotency_key", ""), _negated=True),
                fields=("created_by", "idempotency_key"),
                name="command_issued_once",
            ),
        ),
        migrations.RunSQL(MARK_UNANSWERED, migrations.RunSQL.noop),
    ]
