"""Files read and written: JSON, JSON lines."""
