from natsbridge.admin.dead_letters import DeadLetterAdmin
from natsbridge.admin.pages import SubscriberStatusAdmin
from natsbridge.admin.pruning import PruningAdmin

__all__ = ["DeadLetterAdmin", "PruningAdmin", "SubscriberStatusAdmin"]
