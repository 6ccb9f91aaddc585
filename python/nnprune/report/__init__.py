"""The evaluation report: from the evaluation JSON, and from nothing else, to one HTML page."""
