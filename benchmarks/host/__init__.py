"""Our host and its peers on the same models, under the same load, in the same run.

`python -m benchmarks.host --help`; README.md says what is measured and how to read it.
"""
