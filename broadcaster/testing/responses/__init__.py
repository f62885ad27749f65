"""The Responses wire of the scripted provider."""
