//! A Kinesis and a DynamoDB on loopback ports, for development and tests.
