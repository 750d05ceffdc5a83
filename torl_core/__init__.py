"""The science of ToRL: episodes, engines, sandbox, grading, training. No Prefect, no storage, no tracking."""
