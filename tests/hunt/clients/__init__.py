"""What callers, viewers and the writers of feeds do, each as its client would."""
