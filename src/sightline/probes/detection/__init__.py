"""Does a score tell invented words from true ones?"""
