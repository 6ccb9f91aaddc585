"""Grids of prunings, run in parallel: `nnprune.sweep`."""
