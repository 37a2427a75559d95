"""Sections of a pipeline's config that say what a person knows: target, split, families, limits."""
