"""From a queue of checked requests to a model's outputs: batches, sessions, faults, tuning."""
