"""The APIs of others, as their own SDKs speak them: one file for each."""
