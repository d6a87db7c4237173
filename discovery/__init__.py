"""Where a device can be reached: signed endpoint records, mDNS, the DHT, one resolver over all.

Everything learnt here is a hint: only the TLS handshake proves who answered. Times are Unix
seconds from an injected clock.
"""
