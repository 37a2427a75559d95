"""The gRPC face: the Open Inference Protocol V2, health and reflection on one port."""
