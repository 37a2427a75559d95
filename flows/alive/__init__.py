"""Which flow runs of this machine are dead, and their end, told to Prefect's server."""
