"""Compensation: every published data-free method beside ours, on the same models."""
