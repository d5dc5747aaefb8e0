"""The only writers of this app: one function for each thing a person or an agent can do."""
