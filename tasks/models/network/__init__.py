"""The family `network`: embeddings, residual blocks and an implicit ensemble, trained by torch."""

from tasks.models.network.module import Network, build, load, save

__all__ = ["Network", "build", "load", "save"]
