"""Snapshot, then stream: a table's items as INSERT changes beside its change log, from a Scan or from exports in S3."""
