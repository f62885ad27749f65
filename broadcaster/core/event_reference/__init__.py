"""The events as other languages and readers need them, made from their definitions in ``core/events.py``."""
