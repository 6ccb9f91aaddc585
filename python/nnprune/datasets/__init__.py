"""Evaluation data: arrays, files, folders and streams, checked against what a model takes."""
