"""What a node's databases tell a person: for the command line and the page."""
