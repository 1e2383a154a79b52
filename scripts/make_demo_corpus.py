"""Writes `wirecheck/demo_models/corpus.txt`: the simple, original text the two demo models are trained on.

Blocks are separated by an empty line. A block of `Q:` and `A:` lines is a conversation, any other block is prose, code
or a list. Everything is made from the rules below with one seed, so the file can be made again, byte by byte.
"""

# ruff: noqa: RUF001  letters of other alphabets are wanted here

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

CORPUS = Path(__file__).parents[1] / "wirecheck" / "demo_models" / "corpus.txt"
SEED = 7

# name, legs, sound, home, food, size
ANIMALS = (
    ("cat", 4, "meows", "a house", "fish", "small"),
    ("dog", 4, "barks", "a kennel", "bones", "middle-sized"),
    ("cow", 4, "moos", "a meadow", "grass", "large"),
    ("duck", 2, "quacks", "a pond", "water plants", "small"),
    ("owl", 2, "hoots", "an old tree", "mice", "small"),
    ("bee", 6, "hums", "a hive", "nectar", "tiny"),
    ("spider", 8, "makes no sound", "a web", "flies", "tiny"),
    ("horse", 4, "neighs", "a stable", "hay", "large"),
    ("frog", 4, "croaks", "a marsh", "insects", "small"),
    ("wolf", 4, "howls", "a forest", "meat", "large"),
    ("crow", 2, "caws", "a tall tree", "seeds", "small"),
    ("sheep", 4, "bleats", "a hill", "grass", "middle-sized"),
)

# name, colour, taste, where it grows
PLANTS = (
    ("lemon", "yellow", "sour", "on a tree"),
    ("cherry", "red", "sweet", "on a tree"),
    ("carrot", "orange", "mild", "in the ground"),
    ("potato", "brown", "plain", "in the ground"),
    ("spinach", "green", "bitter", "in a bed"),
    ("plum", "purple", "sweet", "on a tree"),
    ("pea", "green", "sweet", "in a pod"),
    ("blueberry", "blue", "sweet", "on a bush"),
)

# country, capital, what its people say for a greeting
COUNTRIES = (
    ("France", "Paris", "bonjour"),
    ("Italy", "Rome", "buongiorno"),
    ("Spain", "Madrid", "hola"),
    ("Germany", "Berlin", "guten Tag"),
    ("Poland", "Warsaw", "dzień dobry"),
    ("Japan", "Tokyo", "こんにちは"),
    ("Greece", "Athens", "γεια σας"),
    ("Egypt", "Cairo", "مرحبا"),
    ("India", "New Delhi", "नमस्ते"),
    ("China", "Beijing", "你好"),
    ("Norway", "Oslo", "hei"),
    ("Portugal", "Lisbon", "bom dia"),
)

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
NAMES = ("Mira", "Tom", "Anna", "Jon", "Lena", "Omar", "Sofia", "Pavel", "Yuki", "Ravi", "Clara", "Hugo")
PLACES = ("the harbour", "the market", "the library", "the old mill", "the garden", "the station", "the school")
THINGS = ("a lantern", "a wooden boat", "a blue kite", "a small key", "a paper map", "a silver bell", "a jar of honey")
WEATHER = ("It rained", "The sun shone", "Snow was falling", "A strong wind blew", "Fog lay over the fields")
MOODS = ("happy", "tired", "curious", "proud", "quiet", "surprised")

SENTENCES = (
    "El gato duerme en la silla y el perro mira la puerta.",
    "Le train part à huit heures, et la gare est près du marché.",
    "Der kleine Hund läuft über die Wiese und sucht seinen Ball.",
    "Il pane è sul tavolo e il latte è nella brocca.",
    "O barco azul volta ao porto antes da noite.",
    "Mały kot śpi na krześle, a deszcz pada za oknem.",
    "Маленькая лодка стоит у берега, и дети кормят уток.",
    "今日はいい天気です。庭で花を見ます。",
    "今天下雨，我们在家里看书。",
    "오늘은 바람이 불고 하늘이 맑습니다.",
    "الطقس جميل اليوم والأطفال يلعبون في الحديقة.",
    "आज धूप है और बच्चे बगीचे में खेल रहे हैं।",
    "Η θάλασσα είναι ήσυχη και ο ήλιος λάμπει.",
    "A star ⭐, a boat ⛵, a cat 🐈 and a smile 🙂 stand in this line.",
)

CODE = (
    "def {verb}_all(items):\n    total = {start}\n    for item in items:\n        total {op}= item\n    return total\n",
    'class {noun}:\n    name = "{taste}"\n    def greet(self):\n        return "hello " + self.name\n',
    'if __name__ == "__main__":\n    for i in range({count}):\n        print(i, i * {count})\n',
    '{{"name": "{noun}", "legs": {count}, "tags": ["small", "green"], "open": true}}',
    'SELECT name, colour FROM plants WHERE taste = "{taste}" ORDER BY name;',
)


def conversation(*turns: str) -> str:
    """Alternating questions and answers as one block."""
    return "\n".join(f"{'QA'[i % 2]}: {turn}" for i, turn in enumerate(turns))


def animal_blocks() -> list[str]:
    """Each animal as prose, and as questions."""
    blocks = []
    for name, legs, sound, home, food, size in ANIMALS:
        article = "An" if name[0] in "aeiou" else "A"
        blocks.append(
            f"{article} {name} is a {size} animal with {NUMBERS[legs]} legs. It lives in {home}, it eats {food}, "
            f"and it {sound}. When the {name} is hungry, it looks for {food}."
        )
        blocks.append(conversation(f"How many legs does a {name} have?", f"A {name} has {NUMBERS[legs]} legs."))
        blocks.append(
            conversation(
                f"What does a {name} eat?", f"It eats {food}.", "And where does it live?", f"It lives in {home}."
            )
        )
    return blocks


def plant_blocks() -> list[str]:
    """Each plant as prose, and as questions."""
    blocks = []
    for name, colour, taste, where in PLANTS:
        blocks.append(f"The {name} is {colour}. It grows {where}, and it tastes {taste}. People eat it in summer.")
        blocks.append(conversation(f"What colour is a {name}?", f"A {name} is {colour}."))
        blocks.append(
            conversation(
                f"How does a {name} taste?", f"It tastes {taste}.", "Where does it grow?", f"It grows {where}."
            )
        )
    return blocks


def country_blocks() -> list[str]:
    """Capitals and greetings."""
    blocks = []
    for country, capital, greeting in COUNTRIES:
        blocks.append(f"The capital of {country} is {capital}. In {country} people greet each other with: {greeting}.")
        blocks.append(conversation(f"What is the capital of {country}?", f"The capital of {country} is {capital}."))
        blocks.append(conversation(f"How do people say hello in {country}?", f"They say: {greeting}."))
    return blocks


def calendar_blocks() -> list[str]:
    """What comes before and after what."""
    blocks = [f"The days of the week are {', '.join(DAYS[:-1])} and {DAYS[-1]}."]
    for today, tomorrow in zip(DAYS, (*DAYS[1:], DAYS[0]), strict=True):
        blocks.append(conversation(f"Which day comes after {today}?", f"After {today} comes {tomorrow}."))
    for number, month in enumerate(MONTHS, start=1):
        blocks.append(f"{month} is month number {number} of the year. A year has twelve months.")
    return blocks


def arithmetic_blocks(rng: random.Random) -> list[str]:
    """Sums in words and in figures."""
    blocks = []
    for _ in range(40):
        a, b = rng.randint(0, 6), rng.randint(0, 6)
        blocks.append(conversation(f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."))
        blocks.append(f"{NUMBERS[a].capitalize()} and {NUMBERS[b]} make {NUMBERS[a + b]}: {a} + {b} = {a + b}.")
    return blocks


def story(rng: random.Random) -> str:
    """One short story of six sentences."""
    one, two = rng.sample(NAMES, 2)
    place, other_place = rng.sample(PLACES, 2)
    thing, animal = rng.choice(THINGS), rng.choice(ANIMALS)
    bare = thing.split(" ", 1)[1]
    return (
        f"{rng.choice(WEATHER)} on {rng.choice(DAYS)} when {one} walked to {place}. Near the door {one} found {thing}. "
        f'"Whose {bare} is this?" asked {one}. A {animal[0]} sat on the wall; it {animal[2]} when somebody comes. '
        f"Then {two} came from {other_place} and said that the {bare} was lost in {rng.choice(MONTHS)}. "
        f"They carried the {bare} home together, and in the evening {two} was {rng.choice(MOODS)}."
    )


def story_with_questions(rng: random.Random) -> str:
    """A message that tells something small, and questions about it."""
    one, two = rng.sample(NAMES, 2)
    place, thing, day = rng.choice(PLACES), rng.choice(THINGS), rng.choice(DAYS)
    return conversation(
        f"On {day} {one} gave {two} {thing} at {place}. Who has it now?",
        f"{two} has it now.",
        "Where did they meet?",
        f"They met at {place}.",
    )


def code_block(rng: random.Random) -> str:
    """A few lines of code or data."""
    return rng.choice(CODE).format(
        verb=rng.choice(("add", "sum", "count", "join")),
        noun=rng.choice(("Boat", "Garden", "Animal", "Letter")),
        op=rng.choice("+-*"),
        start=rng.randint(0, 3),
        count=rng.randint(2, 9),
        taste=rng.choice(PLANTS)[2],
    )


def corpus(seed: int = SEED) -> str:
    """The whole text: every block once, in an order the seed decides."""
    rng = random.Random(seed)  # noqa: S311  text, not secrets
    blocks = [*animal_blocks(), *plant_blocks(), *country_blocks(), *calendar_blocks(), *arithmetic_blocks(rng)]
    blocks += [story(rng) for _ in range(90)]
    blocks += [story_with_questions(rng) for _ in range(60)]
    blocks += [code_block(rng) for _ in range(30)]
    blocks += list(SENTENCES) * 2
    rng.shuffle(blocks)
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def main() -> int:
    """Write the file, or with --check compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    text = corpus()
    if parser.parse_args().check:
        same = CORPUS.is_file() and CORPUS.read_text(encoding="utf-8") == text
        print(f"{CORPUS.name}: {'as made' if same else 'differs from what this script makes'}")
        return 0 if same else 1
    CORPUS.write_text(text, encoding="utf-8")
    print(f"{CORPUS.name}: {len(text.encode()):,} bytes, {text.count(chr(10) * 2) + 1} blocks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
