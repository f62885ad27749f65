"""How the console draws one answer."""
