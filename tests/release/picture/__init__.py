"""The moving picture of README: recorded from `broadcaster demo` in Chromium, then assembled (`make picture`)."""
