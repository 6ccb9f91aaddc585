"""Pruning: what is asked for is checked, done by the core, and told."""
