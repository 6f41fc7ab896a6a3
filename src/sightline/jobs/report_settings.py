"""What a report is made with."""

PAGE_FILE = "report.html"

SHOWN = 400
"""Samples that a page shows at most, unless it is set otherwise."""
