"""Several processes that are one host: a supervisor, and what it asks and tells its children."""
