"""The stages of the DAG, one module each: what is made, never when or whether."""
