from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("natsbridge", "0003_replays_to_do")]

    operations = [
        migrations.CreateModel(
            name="Pruning",
            fields=[
                (
                    "id",
                    models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False),
                ),
                ("began_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField()),
                ("outcome", models.JSONField(default=dict)),
            ],
            options={
                "verbose_name_plural": "pruning",
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("id", 1)), name="one_pruning_row")
                ],
            },
        ),
    ]
