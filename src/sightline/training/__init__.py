"""Losses that tie words to the image, and the trainer that minimises them."""
