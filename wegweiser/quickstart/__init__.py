"""`make run`: the whole system in the foreground, on servers that come as wheels."""
