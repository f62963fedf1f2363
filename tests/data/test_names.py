"""Names of files as people read them."""

from foresight.data.names import MAX_NAME, printable, shortened


def test_a_name_is_whole_as_long_as_it_can_be_and_then_without_its_middle():
    assert shortened("photos/kitchen.jpg", 18) == "photos/kitchen.jpg"
    assert shortened("photos/of the kitchen.jpg", 18) == "photo… kitchen.jpg"
    assert len(shortened("x" * 300)) == 80


def test_what_cannot_be_printed_is_replaced_and_a_huge_name_bounded():
    assert printable("a\nb\u202e.png") == "a\ufffdb\ufffd.png"
    assert len(printable("é" * 65_535)) == MAX_NAME
