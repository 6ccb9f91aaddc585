"""The command line: `nnprune prune | evaluate | compare | inspect | export | report | demo`."""

from nnprune.cli.application import main, run

__all__ = ["main", "run"]
