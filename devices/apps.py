from django.apps import AppConfig


class DevicesConfig(AppConfig):
    name = "devices"
    verbose_name = "Devices"

    def ready(self) -> None:
        from devices.actions.naming import device_names
        from tenants.audit import writer as audit

        audit.name_devices_by(device_names)
