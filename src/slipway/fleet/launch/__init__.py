"""How the hosts of a fleet are started and stopped; a launcher is a value that is passed in."""
