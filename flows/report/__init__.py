"""The page of a run, from what the run and its stages wrote down."""
