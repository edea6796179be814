"""What the plots of generated stories have in common: beats, and the sentences that can tell them.

A beat is a tuple of sentences of which a story has one; "" leaves the beat out. In braces are

- `{A}`, `{B}`: the names of the characters; `{A.he}`, `{A.him}`, `{A.his}`: their pronouns, with a
  capital letter as `{A.He}`;
- `{color}`: a word of this kind of the lexicon, another one each time; `{toy1}`: one that stays the
  same throughout the story;
- `{=mood}`: one of the phrases of this name, which may have braces as well.
"""

from __future__ import annotations

Beat = tuple[str, ...]

PHRASES: dict[str, Beat] = {
    "once": (
        "One {daytime1}",
        "On a {weather1} {daytime1}",
        "Once upon a time",
        "One day",
        "A long time ago",
        "Early one {daytime1}",
        "Last week",
        "It was a {weather1} {daytime1} when",
    ),
    "girl": ("child", "{trait1} child", "{trait1} young {animal1}", "{trait1} {animal1}"),
    "lived": (
        "in a {look} house near the {place}",
        "at the edge of a {size} {place}",
        "next to an old {tree}",
        "with {A.his} {relative}",
        "in a {color} cottage",
        "behind the {place}",
    ),
    "then": ("Then", "After a while", "Soon", "A moment later", "At last", "In the end", "So"),
    "smiled": (
        "smiled",
        "laughed",
        "nodded",
        "clapped",
        "grinned",
        "jumped up and down",
        "felt {glad}",
        "was very {glad}",
        "could not stop smiling",
    ),
    "cried": (
        "felt {sad}",
        "was very {sad}",
        "sat down on a {spot} and cried",
        "began to cry",
        "looked {sad} and said nothing",
        "sighed",
    ),
    "detail": (
        "",
        "",
        "The sky was {color}.",
        "There was a {look} {spot} beside the {place}.",
        "A {animal} sat on the {spot} and watched.",
        "It smelled of {food}.",
        "The wind blew {adverb} through the {tree}.",
        "Far away there was a {sound}.",
        "A {color} {plant} grew there.",
        "The {worker} waved from the {place}.",
    ),
    "meet": (
        "{A} had a friend named {B}",
        "{A.His} best friend was {B}",
        "{A} often played with {B}",
        "There {A.he} met {B}",
        "{A} did everything together with {B}",
    ),
    "sure": (
        "Of course",
        "Yes, please",
        "What a good idea",
        "Let us try",
        "I would love to",
        "Do not worry",
        "We can do it",
    ),
}

OPENING: Beat = (
    "{=once} there was a {=girl} named {A}. {A} lived {=lived}.",
    "{=once} a {=girl} called {A} {went} to the {place1}. {=detail}",
    "There once was a {=girl} whose name was {A}. {A.He} lived {=lived}.",
    "{A} was a {=girl} who lived {=lived}.",
    "Everybody in the {place} knew {A}, the {=girl}.",
    "It was a {weather1} {daytime1}, and {A} had nothing to do. {=detail}",
    "Do you know the story of {A}? {A.He} was a {=girl} and lived {=lived}.",
)

FRIEND: Beat = (
    "{=meet}, a {trait} {animal}.",
    "{=meet}. {B} was {trait} and {trait}.",
    "{=meet}, who liked to play {game}.",
    "{=meet}. They often shared a {food1} and talked.",
)

ENDING: Beat = (
    "From that day on, {A} and {B} were the best of friends.",
    "That night {A} told {A.his} {relative} everything about {B}.",
    "{A} and {B} went home, tired but {glad}.",
    "And whenever it was {weather}, {A} thought of {B} and smiled.",
    "{A} had learned that {lesson}, and so had {B}.",
    "So {A} learned that {lesson}.",
    '"Today was the best day," said {B}, and {A} agreed.',
    "They shared a {food}, and {B} told {A} a funny story until it was dark.",
    "Since then, {B} and {A} meet at the {place} every {daytime}.",
    "",
)
