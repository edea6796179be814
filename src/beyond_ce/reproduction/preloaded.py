"""Imports what a run needs, for the workers that are then forked from this process."""

import gc

import beyond_ce.models.t5
import beyond_ce.runs.experiment  # noqa: F401

# So that garbage collection writes into none of the memory that the workers share, and does not
# look through all of it at the end.
gc.freeze()
