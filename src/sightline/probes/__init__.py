"""What reads a model inside a `with`."""
