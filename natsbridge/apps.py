from django.apps import AppConfig


class NatsbridgeConfig(AppConfig):
    name = "natsbridge"
    verbose_name = "Message bridge"
