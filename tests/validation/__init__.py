"""Second opinions: public validators over every environment and endpoint kind, and over the workflows.

`make validate` runs all of them (tests/validation/__main__.py). What they find is mended or stands, with its
reason, in acknowledgements.yaml; a row there that nothing needs any more is an error too.
"""
