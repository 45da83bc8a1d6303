"""What a page of HTML is made of, for tests of reports."""

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "input", "link"}


class Tags(HTMLParser):
    """Holds that every tag is closed, and collects what could make a browser fetch something."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.images = 0
        self.words: list[str] = []
        self.feed(document)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self.images += tag == "img"
        given = dict(attributes)
        self.addresses += [given[name] for name in ("src", "href", "xlink:href", "action", "data") if name in given]
        self.addresses += re.findall(r"url\(([^)]*)\)", given.get("style") or "")

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open[:] = self.open if tag in VOID else self.open[:-1]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def check_complete(document: str) -> Tags:
    """A page that needs no other file and no network."""
    tags = Tags(document)
    assert all(address.startswith(("data:", "#")) for address in tags.addresses)
    assert "@import" not in document
    assert "fetch(" not in document
    return tags
