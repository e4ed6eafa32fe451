"""Which type a reply has, by RFC 9110: weights, wildcards, and whatever clients write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.accept import JPEG, JSON, PNG, choose
from handlers.errors import NotAcceptableError

OFFERS = (JPEG, PNG, JSON)


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        (None, JPEG),
        ("", JPEG),
        (" , ,", JPEG),
        ("*/*", JPEG),
        ("*", JPEG),
        ("image/*", JPEG),
        ("image/png", PNG),
        ("IMAGE/PNG", PNG),
        ("application/json", JSON),
        ("application/*", JSON),
        ("application/json;charset=utf-8", JSON),
        ("image/png, image/jpeg;q=0.9", PNG),
        ("image/png;q=0.5,image/jpeg;q=0.5", JPEG),
        ("*/*;q=0.1, image/png;q=0.2", PNG),
        ("image/*, image/jpeg;q=0", PNG),  # the closer range counts, not the heavier one
        ("image/jpeg;q=0, */*;q=0.001", PNG),
        ("*/*, image/*;q=0", JSON),
        ("image/png ; q = 1.000 , */* ; q=0.999", PNG),
        ("application/json, text/plain, */*", JSON),  # axios: among equals what is named
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", JPEG),  # Chromium's, of an image
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", JPEG),  # and of a page
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", JPEG),  # Java's
        ('text/plain;x="a,image/jpeg;q=1";q=1, image/png;q=0.1', PNG),
        ('image/png;x="\\",";q=0.3, application/json;q=0.2', PNG),
        ("image/png;q=2, application/json;q=0.1", JSON),  # what is malformed asks for nothing
        ("*/json, image/png;q=0.1", PNG),
        ("jpeg, application/json;q=0.3", JSON),
    ],
)
def test_what_is_chosen(header: str | None, chosen: str) -> None:
    assert choose(header, OFFERS) == chosen


@pytest.mark.parametrize(
    "header",
    ["text/html", "image/webp", "jpeg", "*/*;q=0", "image/jpeg;q=1e0", "image/png;q=nan", "*/png", '"', "image/"],
)
def test_nothing_acceptable_names_what_is_on_offer(header: str) -> None:
    with pytest.raises(NotAcceptableError, match="image/jpeg, image/png, application/json") as caught:
        choose(header, OFFERS)
    assert (caught.value.status, caught.value.code) == (406, "not_acceptable")


@given(st.text(st.characters(max_codepoint=255), max_size=200) | st.text('image/jpngq=;,."\\* 01', max_size=60))
def test_any_header_has_an_offer_or_the_one_error(header: str) -> None:
    try:
        assert choose(header, OFFERS) in OFFERS
    except NotAcceptableError:
        assert header.strip(", \t")


@given(
    st.dictionaries(
        st.sampled_from([*OFFERS, "image/*", "application/*", "*/*", "text/html"]), st.integers(0, 1000), min_size=1
    ),
    st.randoms(use_true_random=False),
)
def test_the_closest_range_gives_the_weight_in_any_order(weights: dict[str, int], random: object) -> None:
    """Against the rule itself: of each offer the weight of its closest range, and the heaviest offer wins."""
    elements = [f"{name};q={weight / 1000:.3f}" for name, weight in weights.items()]
    random.shuffle(elements)  # type: ignore[attr-defined]

    def weight(offer: str) -> int:
        closest = (offer, f"{offer.partition('/')[0]}/*", "*/*")
        return next((weights[name] for name in closest if name in weights), 0)

    best = max(map(weight, OFFERS))
    if best == 0:
        with pytest.raises(NotAcceptableError):
            choose(", ".join(elements), OFFERS)
    else:
        assert weight(choose(", ".join(elements), OFFERS)) == best


@pytest.mark.parametrize("text", ['"' * 8000, '"\\' * 4000, "a/b;" * 2000, "a/b;q=0.1," * 800, ";=" * 4000 + '"'])
def test_long_headers_take_no_time(text: str) -> None:
    with pytest.raises(NotAcceptableError):
        choose(text, OFFERS)
