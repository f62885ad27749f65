"""CopilotKit: its runtime is a client of ``/agui``, and its pages are clients of the runtime."""
