"""The dialect ``ai-sdk``: the UI message stream of the Vercel AI SDK."""
