from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tenants", "0005_one_time_secrets")]

    operations = [
        migrations.AddField(
            "brokeraccount", "max_devices", models.IntegerField(blank=True, null=True)
        ),
    ]
