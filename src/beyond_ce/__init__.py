"""Training objectives beyond next-token cross-entropy: number token loss and multi-token prediction."""
