"""ASGI: the routes of the container contract, one request from its headers to its last byte."""
