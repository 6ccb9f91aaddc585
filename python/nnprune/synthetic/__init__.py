"""Synthetic inputs: where the statistics of activations come from when there are no data."""
