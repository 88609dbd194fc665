"""The client: what an app imports to have its response times collected. Needs msgspec and urllib3, nothing else."""
