"""Logs of front-ends and workers: how they are set up (``telemetry.py``) and written (``logs.py``)."""
