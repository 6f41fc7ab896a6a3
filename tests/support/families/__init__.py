"""Tiny random models of every supported family, by group. `families.FAMILIES` lists them."""
