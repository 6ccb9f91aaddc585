"""Published data-free methods, re-implemented from their papers in NumPy."""
