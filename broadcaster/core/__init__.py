"""The pure middle: events, cursors, framing, splice, fold. No await, clock, randomness or environment in here."""
