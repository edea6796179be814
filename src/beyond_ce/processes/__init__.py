"""Processes that belong together, and that end together: jobs of a sweep, ranks of a run."""
