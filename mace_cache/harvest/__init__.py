"""Harvest: taking the binary out of a built program, at the time when it is complete."""
