"""The DAG of dvc.yaml as a flow runs it: which stages, in what order, each under a supervisor."""
