from django.apps import AppConfig


class DevicesConfig(AppConfig):
    name = "devices"
    verbose_name = "Devices"

    def ready(self) -> None:
        from devices.actions.naming import device_names
        from tenants.actions import audit

        audit.name_devices_by(device_names)
