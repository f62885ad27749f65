"""The output of a provider on the Responses wire, read item by item."""
