"""Three small dialects for first programs: ``delta``, ``named`` and ``parts``."""
