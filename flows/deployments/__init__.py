"""What a Prefect server is to know of this project: deployments, triggers, automations."""
