"""Model files in and out: the only place that reads and writes Keras models."""
