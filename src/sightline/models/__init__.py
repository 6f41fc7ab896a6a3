"""Models of the Transformers library: loaded, taken apart, and laid out by position."""
