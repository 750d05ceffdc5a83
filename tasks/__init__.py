"""One step of the pipeline each: load by reference, call torl_core, store, return a reference."""
