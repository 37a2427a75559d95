"""Who may ask for what, and how often: keys, tokens, TLS, rates."""
