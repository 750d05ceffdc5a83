"""Where the science meets the machine: settings, storage, tracking, warm workers, analytics."""
