"""One run, from a config to a report, and back from a run's folder to its model."""
