"""Text generation without HTTP: what a request asks of the model, and what its tokens become."""
