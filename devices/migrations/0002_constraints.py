from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("devices", "0001_initial"), ("tenants", "0002_constraints")]

    operations = [
        migrations.RunSQL(
            """
            ALTER TABLE devices_device ADD CONSTRAINT device_tenant_is_its_groups
                FOREIGN KEY (group_id, tenant_id) REFERENCES tenants_group (uuid, tenant_id)
                DEFERRABLE INITIALLY DEFERRED;
            ALTER TABLE devices_connectivity SET (fillfactor = 70);
            ALTER TABLE devices_realtimedata SET (fillfactor = 70);
            """,
            reverse_sql="""
            ALTER TABLE devices_realtimedata RESET (fillfactor);
            ALTER TABLE devices_connectivity RESET (fillfactor);
            ALTER TABLE devices_device DROP CONSTRAINT device_tenant_is_its_groups;
            """,
        ),
    ]
