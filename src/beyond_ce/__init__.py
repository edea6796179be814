"""Training objectives beyond next-token cross-entropy, from two papers."""
