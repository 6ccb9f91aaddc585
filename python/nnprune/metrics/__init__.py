"""How good, calibrated and robust a model's outputs are; NumPy only."""
