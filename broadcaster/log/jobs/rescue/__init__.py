"""What a front-end does so that Redis cannot lose an accepted or ended generation."""
