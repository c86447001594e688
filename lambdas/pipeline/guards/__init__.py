"""Guards: checks of a text, each a small class with one method, whoever provides them."""
