"""The fault hunter: traffic and faults drawn from a seed, over real processes, judged by rules of its own.

It shares no code with ``tests/faults``: what one of the two takes for granted, the other one doubts.
"""
