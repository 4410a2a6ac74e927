"""Language models: one file a family, and `logps` for what they share."""
