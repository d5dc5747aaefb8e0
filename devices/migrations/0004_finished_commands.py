from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("devices", "0003_bulk_commands")]

    operations = [
        migrations.AddIndex(
            "command",
            models.Index(
                condition=models.Q(("finished_at__isnull", False)),
                fields=["finished_at"],
                name="command_finished",
            ),
        ),
    ]
