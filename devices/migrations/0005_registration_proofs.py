from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("devices", "0004_finished_commands")]

    operations = [
        migrations.CreateModel(
            name="RegistrationProof",
            fields=[
                (
                    "nkey_public",
                    models.CharField(max_length=56, primary_key=True, serialize=False),
                ),
                ("timestamp", models.BigIntegerField()),
            ],
        ),
    ]
