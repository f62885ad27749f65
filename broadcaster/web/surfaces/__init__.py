"""The providers' and SDKs' own APIs, one module each."""
