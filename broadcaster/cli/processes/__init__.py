"""Child processes of the commands: front-ends and workers."""
