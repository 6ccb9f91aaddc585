"""What pruning did to the outputs, proved, and the check of such a proof."""
