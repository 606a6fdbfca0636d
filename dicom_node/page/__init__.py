"""The page for people: server-rendered, in a process of its own beside the receivers."""
