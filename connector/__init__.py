"""Millrace: leads a database's change log onto search indexes, caches, audit tables and read models."""

__version__ = "0.1.0"
