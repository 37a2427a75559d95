"""What the command line starts: settings first, then a flow, then an exit code."""
