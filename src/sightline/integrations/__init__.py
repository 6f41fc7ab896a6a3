"""Sightline inside other harnesses."""
