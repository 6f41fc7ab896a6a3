"""What is made to be looked at: figures now, pages later."""
