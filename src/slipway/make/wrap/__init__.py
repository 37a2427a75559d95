"""Make a bundle of an ONNX model that was made elsewhere.

    given rows ─┐
                ├─ measure: alone, again, in batches, padded ─ judge ─ write ─ sign
    the graph ──┘

Nobody here knows how the model was trained or how good it is, and every paper in the bundle
says so: what is proven is that a host gives the answers that were given here.
"""
