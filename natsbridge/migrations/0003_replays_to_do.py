from django.db import migrations, models


class Migration(migrations.Migration):
    # Apart from 0002: Postgres makes no index on a table whose rows the same transaction changed.
    dependencies = [("natsbridge", "0002_dead_letters")]

    operations = [
        migrations.AddIndex(
            "parkedmessage",
            models.Index(
                condition=models.Q(("replay_requested_at__isnull", False), ("state", "parked")),
                fields=["replay_requested_at"],
                name="replays_to_do",
            ),
        ),
    ]
