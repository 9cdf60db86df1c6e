"""What DynamoDB Streams and Kinesis have in common: shards with parents and ends, read by polling, kept for a while."""
