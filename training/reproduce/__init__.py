"""A whole table of the papers from one command: strategies x encoders x tasks x shares x seeds."""
