"""Pages as tests read them: elements, links, texts, and what a strict policy would not let run."""

from __future__ import annotations

from html.parser import HTMLParser

__all__ = ["Page"]

VOID = {"meta", "link", "input", "br", "img", "hr", "option", "path", "circle", "col", "wbr"}


class Page(HTMLParser):
    """A page that was read.

    Attributes:
        elements: Each element: its name and its attributes.
        texts: The texts of elements, in order.
        unbalanced: Where an element is closed that was not opened, or not closed.
    """

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.unbalanced, self._open = [], [], [], []
        self.feed(text)
        self.close()
        self.unbalanced += self._open

    def handle_starttag(self, tag, attrs):
        """Note an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Note an element that closes itself."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        """Note whether what is closed is open."""
        if tag in VOID:
            return
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(f"/{tag} at {self.getpos()}")

    def handle_data(self, data):
        """Note a text."""
        if data.strip():
            self.texts.append(data.strip())

    @property
    def text(self):
        """All that is to be read."""
        return " ".join(" ".join(self.texts).split())

    @property
    def links(self):
        """Where its links and forms lead, in order."""
        return [
            found
            for tag, attrs in self.elements
            for found in [attrs.get("href") if tag == "a" else attrs.get("data-href")]
            if found
        ]

    @property
    def names(self):
        """The names of its elements."""
        return {tag for tag, _ in self.elements}

    @property
    def refused(self):
        """What a policy without inline scripts and styles would not let work."""
        found = [
            f"{tag} {name}"
            for tag, attrs in self.elements
            for name in attrs
            if name == "style" or name.startswith("on")
        ]
        found += [tag for tag, attrs in self.elements if tag == "style"]
        found += [tag for tag, attrs in self.elements if tag == "script" and not attrs.get("src")]
        for tag, attrs in self.elements:
            for name in ("href", "src", "action", "formaction"):
                if "script:" in (attrs.get(name) or "").lower().replace("\t", ""):
                    found.append(f"{tag} {name}")
        return found

    def rows(self, id="list"):
        """Return the keys of the rows of a table."""
        return [attrs["data-key"] for tag, attrs in self.elements if "data-key" in attrs]
