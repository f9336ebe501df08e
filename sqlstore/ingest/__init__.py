"""Many things into one store, in parallel and resumable; and folders of files into it and out."""
