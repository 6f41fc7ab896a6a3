"""Does a score distinguish invented words from true ones?"""
