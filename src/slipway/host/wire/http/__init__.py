"""The HTTP/1.1 face: V2 JSON and binary tensors, and the admin listener."""
