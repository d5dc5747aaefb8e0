"""Faults under load, and a ledger of what was acknowledged: run by `make faults`."""
