"""Places that take messages, each behind the same three calls; the sinks ``notify`` and ``outbox`` share them.

protocol.py      a message, and what a publisher owes
sending.py       a batch on its way: rate, what went through before a failure, what must wait behind a retry
tokens.py        ids and keys as the places take them
rounds.py        messages of one key one after another, those of different keys at once
webhook.py       HTTP, signed            addresses.py  where it may connect to
kafka.py         a topic
aws.py           calls of AWS services   sqs.py  sns.py  eventbridge.py
"""
