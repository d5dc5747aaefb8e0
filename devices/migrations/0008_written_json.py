from django.db import migrations

from devices.models.fields import WrittenJSONField


class Migration(migrations.Migration):
    dependencies = [("devices", "0007_unanswered_commands")]

    operations = [
        migrations.AlterField("command", "result", WrittenJSONField(null=True)),
        migrations.AlterField("connectivity", "connection_info", WrittenJSONField(default=dict)),
        migrations.AlterField(
            "device",
            "hardware_info",
            WrittenJSONField(blank=True, default=dict, editable=False),
        ),
    ]
