"""The text of the run: two kinds, each with its own vocabulary and a few shared words, the same every time."""

import json
import random
from pathlib import Path

WORDS = {
    "sea": "ship sail wave harbour tide anchor mast captain storm gull reef deck rope salt crew",
    "kitchen": "flour butter oven sugar whisk bowl knead dough yeast crust spice simmer pan stew broth",
}
SHARED = ["the", "of", "and", "a"]

generator = random.Random(0)
folder = Path("texts")
folder.mkdir()
for kind, words in WORDS.items():
    lines = []
    for number in range(40):
        for _ in range(3):
            drawn = [
                generator.choice(words.split()) if generator.random() < 0.8 else generator.choice(SHARED)
                for _ in range(60)
            ]
            lines.append(json.dumps({"text": " ".join(drawn), "source": f"{kind}-{number}"}))
    (folder / f"{kind}.jsonl").write_text("\n".join(lines) + "\n")
