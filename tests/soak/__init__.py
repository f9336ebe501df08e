"""Writers, readers and others at work on one store, killed at random moments: `make soak`."""
