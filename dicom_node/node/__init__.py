"""Start the parts, watch them, stop them.

``serve`` is the supervisor: it owns the data folder and holds one worker and the receivers as child
processes. A child that dies is started again; a child whose supervisor dies stops by itself, so
that the next start finds a free port.

Nothing is imported here: every process imports what it runs, and a receiver runs no model.
"""
