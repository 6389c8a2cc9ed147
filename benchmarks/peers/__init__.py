"""The same training by other systems: `make bench-peers`.

A system's file runs in an environment of its own, where neither trainhooks nor attrs is installed: what it shares with
the others, `driver` and `tasks`, needs torch and the standard library alone.
"""
