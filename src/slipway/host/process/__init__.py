"""The process: options, putting the rooms together, starting and stopping, several as one host."""
