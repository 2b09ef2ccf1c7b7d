"""Many patterns at once are the same as each by itself, and asking them does not cost their number."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flows.cluster.domain_names import NamePatterns, matches_name

LABELS = st.sampled_from(["a", "b", "example", "com"])
NAMES = st.lists(LABELS, min_size=1, max_size=5).map(".".join)
PATTERNS = st.lists(LABELS, min_size=2, max_size=4).map(".".join)


@given(st.lists(st.one_of(PATTERNS, PATTERNS.map("*.{}".format)), max_size=6), NAMES)
def test_patterns_together_are_each_by_itself(patterns: list[str], name: str) -> None:
    expected = any(matches_name(one, name) for one in patterns)
    assert NamePatterns(patterns).match(name) is expected
    assert NamePatterns(patterns).liveness([(name, False), ("", True)]) is (False if expected else None)


def test_names_that_no_rule_can_have_match_nothing() -> None:
    found = NamePatterns(["*.example.com", "*.com.example"])
    for name in ("", ".", "example.com", ".example.com", "\\61\\62", "www.example.com."):
        assert not found.match(name), name
