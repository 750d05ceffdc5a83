"""What a user starts: campaign, evaluate, demo, and the `torl` command."""
