"""What a power failure may leave on a disk, tried out.

The file system calls of small workloads are recorded, every image of the disk that a power failure
may leave at any of them is made, opened with the library, and checked. `docs/durability.md` tells
what is promised; `python -m tests.crash_states --help` how to run it.
"""
