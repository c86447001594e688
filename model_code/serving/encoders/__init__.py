"""Embeddings and classification without HTTP: batches of texts, rows of numbers."""
