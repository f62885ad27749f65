"""What each process sets up for itself: its child environment, its parent watch, its garbage collection."""
