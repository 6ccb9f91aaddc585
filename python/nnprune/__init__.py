"""Data-free, robustness-preserving pruning of Keras models."""
