"""Tell people of a run by mail or a chat's webhook, from any machine and without a server."""
