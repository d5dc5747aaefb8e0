"""Bring over a fleet that was registered elsewhere: import, device tokens, progress, undo."""
