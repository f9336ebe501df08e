"""A kill, an error or a short write at every file system call of short programs: `make faults`."""
