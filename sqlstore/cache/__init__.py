"""What is derived from the log so that reading needs no SQLite; it may be thrown away."""
