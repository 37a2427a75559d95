"""The programs that Prefect runs: they cause effects, and decide nothing that bytes depend on."""
