"""Samples, where they come from, and words and objects named in them."""
