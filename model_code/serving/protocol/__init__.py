"""OpenAI's bodies: from bytes to checked requests, from answers to bytes. Knows no HTTP and no engine."""
