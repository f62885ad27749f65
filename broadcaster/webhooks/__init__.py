"""Rules of webhooks: allowed URLs, signatures and the schedule of retries. Pure."""
