"""Which score orders candidates best, strategy by strategy."""
