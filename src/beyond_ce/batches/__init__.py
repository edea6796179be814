"""From examples and documents to the padded or packed tensors that a model trains on."""
