from django.apps import AppConfig


class DevicesConfig(AppConfig):
    name = "devices"
    verbose_name = "Devices"

    def ready(self) -> None:
        from devices.enrolment.credentials import agents_that_renew
        from devices.enrolment.naming import device_names
        from tenants.audit.writer import register_device_names
        from tenants.credentials.renewals import register_renewing_devices

        register_device_names(device_names)
        register_renewing_devices(agents_that_renew)
