"""How the processes of one training are started. The loop in them does not know."""
