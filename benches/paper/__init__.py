"""The papers' experiments: what the method does on their models, and how it compares."""
