"""Rules about providers and models: routing, retries, refusals, lists of models. Pure."""
