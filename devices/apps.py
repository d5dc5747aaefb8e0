from django.apps import AppConfig


class DevicesConfig(AppConfig):
    name = "devices"
    verbose_name = "Devices"

    def ready(self) -> None:
        from devices.enrolment.naming import device_names
        from devices.enrolment.renewals import agents_that_renew
        from tenants.audit import writer as audit
        from tenants.credentials import renewals

        audit.name_devices_by(device_names)
        renewals.answered_by(agents_that_renew)
