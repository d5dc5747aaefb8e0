from natsbridge.admin.pages import SubscriberStatusAdmin
from natsbridge.admin.parked import ParkedMessageAdmin
from natsbridge.admin.pruning import PruningAdmin

__all__ = ["ParkedMessageAdmin", "PruningAdmin", "SubscriberStatusAdmin"]
