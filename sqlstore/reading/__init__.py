"""Read stored values: from location row to chunk to bytes, one by one and many at once."""
