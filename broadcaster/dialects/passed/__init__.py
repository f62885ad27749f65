"""Calls that pass through us unchanged: embeddings, legacy completions, token counts."""
