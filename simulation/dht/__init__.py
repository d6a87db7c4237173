"""Thousands of DHT nodes that come and go, in virtual time: `run dht-churn`."""
