"""Which version answers, and what becomes of each call. Knows no transport and no store."""
