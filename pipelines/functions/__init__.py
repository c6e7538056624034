"""Users' own Python: called with batches, in this process where it is trusted, else in one of its own."""
