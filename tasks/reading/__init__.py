"""Read sources as people have them into typed tables of DuckDB, or refuse them by a sentence.

    url -> places: files    packing, encodings: plain files    delimited | rows | parquet: a scan
    scan -> table: every value is what its column is declared to be, or the reading stops

DuckDB parses; what it makes of a value by itself is never taken: it reads 1.5 as the integer 2,
and drops the offset of a time. `casts` and `typed` say what a value is.
"""
