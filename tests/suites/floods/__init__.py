"""Devices that send far too much, and what becomes of their neighbours meanwhile."""
