"""Export all that a tenant has, as JSON lines."""
