from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("tenants", "0001_initial")]

    operations = [
        migrations.RunSQL(
            """
            ALTER TABLE tenants_group ADD CONSTRAINT group_tenant_is_its_organisations
                FOREIGN KEY (organisation_id, tenant_id)
                REFERENCES tenants_organisation (uuid, tenant_id)
                DEFERRABLE INITIALLY DEFERRED;
            """,
            reverse_sql="ALTER TABLE tenants_group DROP CONSTRAINT group_tenant_is_its_organisations",
        ),
    ]
