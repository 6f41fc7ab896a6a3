"""The live page: a small server that puts questions to one model and shows where it looks."""
