from natsbridge.admin.pages import ParkedMessageAdmin, SubscriberStatusAdmin

__all__ = ["ParkedMessageAdmin", "SubscriberStatusAdmin"]
