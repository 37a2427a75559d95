"""How a bundle is made: from the payload of a pipeline, or from an ONNX file made elsewhere.

    payload ─ proof ─ lineage ─ SBOM ─ card ─ manifest ─ signature

Knows neither DVC nor git nor Prefect: what these say comes in as values.
"""
