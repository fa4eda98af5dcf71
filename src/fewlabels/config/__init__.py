"""The configuration: schema, ranges, what a command line means, checks."""
