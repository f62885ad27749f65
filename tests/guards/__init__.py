"""Tests of the source itself: what people forget when they are in a hurry."""
