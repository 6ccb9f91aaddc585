"""What is measured of a model: figures from its outputs, batch by batch, its size and its speed."""
