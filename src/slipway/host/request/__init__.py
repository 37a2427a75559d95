"""What a request is, whatever brings it: message, refusal, routes, admission."""
