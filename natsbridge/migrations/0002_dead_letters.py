from django.db import migrations, models

# What the rows of the earlier version do not say of themselves, but their subjects do.
WHOSE = """
    UPDATE natsbridge_parkedmessage SET
        account = CASE WHEN subject ~ '^(ingest|broker)[.][A-Z0-9]{56}[.]'
            THEN split_part(subject, '.', 2) ELSE '' END,
        source = CASE WHEN subject LIKE 'broker.%' THEN 'presence'
            WHEN subject LIKE 'ingest.%.demo.system.%' THEN 'metrics' ELSE '' END
"""


class Migration(migrations.Migration):
    dependencies = [("natsbridge", "0001_initial")]

    operations = [
        migrations.RenameField("parkedmessage", "deliveries", "attempts"),
        migrations.AddField("parkedmessage", "sequence", models.BigIntegerField(null=True)),
        migrations.AddField(
            "parkedmessage",
            "state",
            models.CharField(
                choices=[
                    ("parked", "Parked"),
                    ("replayed", "Replayed"),
                    ("discarded", "Discarded"),
                ],
                default="parked",
                max_length=10,
            ),
        ),
        migrations.AddField("parkedmessage", "settled_at", models.DateTimeField(null=True)),
        migrations.AddField(
            "parkedmessage", "settled_by", models.CharField(blank=True, default="", max_length=150),
            preserve_default=False,
        ),
        migrations.AddField("parkedmessage", "replay_requested_at", models.DateTimeField(null=True)),
        migrations.AddField(
            "parkedmessage",
            "replay_requested_by",
            models.CharField(blank=True, default="", max_length=150),
            preserve_default=False,
        ),
        migrations.AddField(
            "parkedmessage", "source", models.CharField(blank=True, default="", max_length=60),
            preserve_default=False,
        ),
        migrations.AddField(
            "parkedmessage", "account", models.CharField(blank=True, default="", max_length=56),
            preserve_default=False,
        ),
        migrations.AddField(
            "parkedmessage", "tenant", models.UUIDField(db_index=True, null=True)
        ),
        migrations.AddField(
            "parkedmessage", "device", models.UUIDField(db_index=True, null=True)
        ),
        migrations.AddField(
            "parkedmessage",
            "kind",
            models.CharField(blank=True, db_index=True, default="", max_length=64),
            preserve_default=False,
        ),
        migrations.AddField("parkedmessage", "whole_size", models.PositiveIntegerField(default=0)),
        migrations.AddConstraint(
            "parkedmessage",
            models.UniqueConstraint(fields=("sequence", "parked_at"), name="one_row_a_dead_letter"),
        ),
        migrations.RunSQL(WHOSE, migrations.RunSQL.noop),
    ]
