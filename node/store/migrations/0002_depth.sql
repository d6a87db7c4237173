-- Encryption at rest, key rotation, blocking, fairness: what the second issue added.
SELECT 1;
