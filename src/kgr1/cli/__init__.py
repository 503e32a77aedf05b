"""The command line ``kgr1``: one file per group of commands, nothing heavy imported before it is needed."""
