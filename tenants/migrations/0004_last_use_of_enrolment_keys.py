from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tenants", "0003_bulk_command_actions")]

    operations = [
        migrations.AddField(
            "enrollmentkey", "last_used_at", models.DateTimeField(editable=False, null=True)
        ),
    ]
