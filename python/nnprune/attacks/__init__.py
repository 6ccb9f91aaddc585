"""Adversarial attacks on a model's logits, within the box of legitimate inputs."""
