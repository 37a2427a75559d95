"""What callers speak: HTTP/1.1 and gRPC, V2 JSON and binary tensors. Knows no model."""
