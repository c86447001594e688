"""Judging models: metrics, statistics, reports. Pure functions and one command line; knows no AWS library."""
