"""A method, a benchmark and a command for Sightline."""
