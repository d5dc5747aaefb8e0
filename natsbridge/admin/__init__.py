from natsbridge.admin.dead_letters import ParkedMessageAdmin
from natsbridge.admin.pages import SubscriberStatusAdmin
from natsbridge.admin.pruning import PruningAdmin

__all__ = ["ParkedMessageAdmin", "PruningAdmin", "SubscriberStatusAdmin"]
