"""What is in the columns and fields of some records: counts, distributions and sizes.

Everything comes from the metadata and from the locations of values; no payload is read.
"""
