"""One module per system, so that a package that is not installed costs only its own row."""
