"""Attention sinks: tokens that draw attention and mean nothing, found on the loaded model and checked against it."""
