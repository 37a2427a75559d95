"""Which versions this host should serve, and how they are fetched, checked and swapped in."""
