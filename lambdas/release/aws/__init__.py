"""The refresh functions' only way to AWS: one module per service, nothing decided here."""
