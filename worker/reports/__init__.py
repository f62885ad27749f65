"""What a worker reports of itself for operators."""
