"""A test for the eye: images of all models, shuffled and nameless, until the reader asks for the key."""

import json
import random

from torch import Tensor

from progan.report.html import paragraph, text
from progan.report.pictures import data_uri

_EACH = 12
"""Images of every model."""


def panel(images: dict[str, Tensor]) -> str:
    """Up to 12 of the images uint8 [N, C, R, R] of each name, in an order that gives nothing away.

    A click on an image says "looks real". Votes stay in the page; nothing is sent anywhere.
    """
    if len(images) < 2:
        return ""
    names = list(images)
    cards = [(number, image) for number, name in enumerate(names) for image in images[name][:_EACH]]
    random.Random(0).shuffle(cards)
    tiles = "".join(
        f'<button class="tile" aria-pressed="false" aria-label="image {i + 1}"><img class="pixels" alt="" '
        f'src="{data_uri(image)}"></button>'
        for i, (_, image) in enumerate(cards)
    )
    key = json.dumps({"names": [text(name) for name in names], "key": [number for number, _ in cards]})
    words = (
        f"{len(cards)} images of {len(names)} origins, shuffled. Click on those that look real to you; only then ask "
        "for the key. The votes stay in this page."
    )
    safe = key.replace("<", "\\u003c")
    return (
        f'{paragraph(words)}<div class="panel">{tiles}</div>'
        f'<p><button class="reveal">Show the key and count</button></p>'
        f'<div class="scroll key" hidden></div><script>(() => {{ const secret = {safe};{_SCRIPT}}})()</script>'
    )


STYLE = """
.panel { display: grid; grid-template-columns: repeat(auto-fill, minmax(64px, 1fr)); gap: .5rem; max-width: 900px }
.tile { padding: 3px; border: 2px solid transparent; background: none; line-height: 0 }
.tile img { width: 100% } .tile[aria-pressed=true] { border-color: var(--accent) }
.tile small { line-height: 1.2; display: block; margin-top: 2px; overflow-wrap: anywhere }
"""

_SCRIPT = """
  const section = document.currentScript.parentElement;
  const tiles = [...section.querySelectorAll('.tile')];
  tiles.forEach(tile => tile.onclick = () =>
    tile.setAttribute('aria-pressed', tile.getAttribute('aria-pressed') !== 'true'));
  section.querySelector('.reveal').onclick = event => {
    const votes = secret.names.map(() => [0, 0]);
    tiles.forEach((tile, i) => {
      const origin = secret.key[i];
      votes[origin][0] += tile.getAttribute('aria-pressed') === 'true';
      votes[origin][1] += 1;
      tile.disabled = true;
      tile.insertAdjacentHTML('beforeend', `<small>${secret.names[origin]}</small>`);
    });
    const rows = secret.names.map((name, i) =>
      `<tr><td>${name}</td><td>${votes[i][0]} of ${votes[i][1]}</td></tr>`).join('');
    const key = section.querySelector('.key');
    key.innerHTML = `<table><thead><tr><th>origin</th><th>looked real</th></tr></thead><tbody>${rows}</tbody></table>`;
    key.hidden = false;
    event.target.disabled = true;
  };
"""
