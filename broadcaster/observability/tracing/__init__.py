"""Traces: spans as our code knows them (``spans.py``), how a process opens them, and OpenTelemetry behind them."""
