"""The commands of training: each parses, calls, prints, and is imported when it is called."""
