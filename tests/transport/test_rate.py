from __future__ import annotations

from transport.rate import TokenBucket


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    bucket = TokenBucket(rate=10, burst=5)
    assert [bucket.take(0) for _ in range(6)] == [True] * 5 + [False]
    assert 0 < bucket.wait_s(0) <= 0.1
    assert bucket.wait_s(0.11) == 0
    assert bucket.wait_s(-5) > 0, "asking with an old time changes nothing"
    assert bucket.wait_s(0.11) == 0


def test_a_debt_is_paid_back_and_rest_gives_no_more_than_the_burst() -> None:
    bucket = TokenBucket(rate=10, burst=5)
    bucket.use(100, now=1)  # what a batch costs is known when it was read
    assert 9.5 < bucket.wait_s(1) <= 10
    assert bucket.wait_s(5) > 0
    assert bucket.wait_s(11) == 0
    assert [bucket.take(1_000) for _ in range(6)] == [True] * 5 + [False]
