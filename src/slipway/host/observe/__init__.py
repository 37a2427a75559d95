"""What the host tells about itself: metrics, logs, traces, audit, captured requests."""
