from django.db import migrations, models
from django.db.models import F


def date_what_is_known(apps, schema_editor):
    """Until now each heartbeat replaced what the one before it had said."""
    connectivity = apps.get_model("devices", "Connectivity").objects
    connectivity.filter(capabilities_at=None).update(capabilities_at=F("last_heartbeat"))


class Migration(migrations.Migration):
    dependencies = [("devices", "0005_registration_proofs")]

    operations = [
        migrations.AddField("connectivity", "capabilities_at", models.DateTimeField(null=True)),
        migrations.RunPython(date_what_is_known, migrations.RunPython.noop),
    ]
