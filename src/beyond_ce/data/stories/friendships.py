"""Plots about what the characters do together or to each other."""

from __future__ import annotations

from beyond_ce.data.stories.phrases import ENDING, FRIEND, OPENING, Beat

FRIENDSHIPS: dict[str, tuple[Beat, ...]] = {
    "bake": (
        OPENING,
        (
            "It was the birthday of {B}, and {A} wanted to bake a {food1}.",
            "{B}, the {worker1}, was ill, so {A} decided to make a {food1} for {B.him}.",
            "{A.His} {relative1} had shown {A.him} how to make a {food1}. {A} invited {B} to help.",
        ),
        (
            "{A} put {ingredient} and {ingredient} into a {size} bowl.",
            "First {A.he} needed {ingredient1}, but there was no {ingredient1} in the {place}.",
            '"How much {ingredient} do we need?" {asked} {B}. "A lot!" {said} {A}.',
        ),
        (
            "But {A} took {ingredient} instead of {ingredient}, and it tasted awful.",
            "But there was a {sound}, and the bowl fell on the floor. {A} {=cried}.",
            "But {A} forgot the oven while playing {game}, and soon everything was black.",
            "But a {animal} came through the window and ate half of it. {A} {=cried}.",
        ),
        (
            '"It does not matter," {said} {B}. "We can try again."',
            '"I have ruined it," {said} {A}. But {B} only laughed and fetched more {ingredient}.',
            "{B} was not {cross} at all. {B.He} took a {tool} and cleaned the kitchen with {A}.",
        ),
        (
            "This time {A} read every line {adverb}, and {B} stirred.",
            "The second time, {A} and {B} took turns, and nothing went wrong.",
            "{A} went to the {worker} for new {ingredient}, while {B} washed the bowl.",
        ),
        (
            "{=then} the {food1} was ready. It was {look} and {color}. {A} {=smiled}.",
            "{=then} they took the {food1} out of the oven, and {B} {=smiled}.",
            '"This is the best {food1} I have ever eaten," {said} {B}, and {A} {=smiled}.',
        ),
        ENDING,
    ),
    "skill": (
        OPENING,
        (
            "More than anything, {A} wanted to {skill1}.",
            "All the others could {skill1}, only {A} could not.",
            "{A} had seen the {worker} {skill1} and wanted to do the same.",
        ),
        (
            "{A.He} tried it at the {place2}, but there was a {sound} and {A} hurt {A.his} {part}.",
            "{A.He} tried once, twice, three times. Each time it went wrong, and {A} {=cried}.",
            'The {relative} of {A} said, "You are too {size} for that."',
        ),
        (
            "{B}, a {trait} {animal}, came by. {B} could {skill1} very well.",
            "Then {A} asked {B}, who was older. {B} {=smiled}.",
            "{B} had watched from the {spot}.",
        ),
        (
            '"Let me show you," {said} {B}. "You have to begin {adverb}."',
            '"I could not do it either at first," {said} {B}. "Try it every {daytime}, {A}."',
            '{B} {said}, "Hold my hand, {A}. I will not let you fall."',
        ),
        (
            "So {A} practiced at the {place2} every {daytime}. {=detail}",
            "Day after day, {B} helped, and {A} tried again and again.",
            "It was hard. {A} was {cross} and wanted to give up, but {B} was {trait}.",
        ),
        (
            "{=then} it worked! {A} could {skill1}.",
            '{=then} {A} did it all alone. "Look at me, {B}!" {A.he} called.',
            "{=then}, without thinking, {A} did it. {B} {=smiled}.",
        ),
        (
            "Now {A} wanted to teach {A.his} {relative} to {skill1}, too.",
            "At the {event}, everybody watched {A} and clapped.",
            "",
        ),
        ENDING,
    ),
    "truth": (
        OPENING,
        FRIEND,
        (
            "One {daytime} {A} played with the {treasure1} of {A.his} {relative1}, and it broke.",
            "While {B} was away, {A} took {B.his} {toy1} without asking and lost it.",
            "{A} ate the {food1} that was meant for {B}. Not a crumb was left.",
        ),
        (
            "{A} was {afraid} and hid in the {container}.",
            '"Who did this?" {asked} {B}. {A} looked at the floor and said, "It was a {animal1}."',
            "Nobody had seen it, so {A} told everybody that a {animal1} had done it.",
        ),
        (
            "So {B} was {cross} with the {animal1}, who had done nothing.",
            "{B} believed {A} and went to look for the {animal1}.",
            "But at night {A} could not sleep. {A.He} heard a {sound} and thought of {B}.",
        ),
        (
            "{A} felt worse and worse, even the {food} did not taste good.",
            '"What is wrong, {A}?" {asked} {A.his} {relative}. {A} {=cried}.',
            "The {trait} {worker} saw that {A} was {sad}.",
        ),
        (
            '{=then} {A} went to {B} and said, "I have to tell you something. It was me."',
            '{=then} {A} told {B} the truth. "I am so sorry," {A.he} said.',
            '"I lied to you, {B}," {said} {A} and {=cried}.',
        ),
        (
            '{B} was quiet for a while. "Thank you for telling me, {A}," {B.he} said.',
            "{B} was {cross}, but then {B.he} gave {A} a hug.",
            '"We all make mistakes," {said} {B}. "Let us mend it together."',
        ),
        (
            "{A} used {A.his} own money to buy a new one at the {place}.",
            "They also said sorry to the {animal1} and brought a {food}.",
            "",
        ),
        ENDING,
    ),
    "share": (
        OPENING,
        (
            "{A} had a {food1} and was about to eat it on a {spot1} at the {place2}.",
            "{A.His} {relative} had given {A} a {size} {food1}.",
        ),
        (
            "{B} came along. {B.He} had nothing to eat and was very {sad}.",
            "On the next {spot} sat {B}, a {trait} {animal}, who looked at the {food1}.",
            'Then {B} came by. "That smells good," {B.he} {said}.',
        ),
        (
            '"It is mine," {said} {A} and turned away.',
            '"May I have a piece?" {asked} {B}. "No," {said} {A}.',
            "{A} did not want to give anything away and hid the {food1} in a {container1}.",
        ),
        (
            "{B} went away {adverb}. Suddenly the {food1} did not taste so good any more.",
            "But then {A} saw that {B} was crying, and {A.he} felt {sad}, too.",
            "Just then a {animal} snatched the {food1} and ran away with it. {A} {=cried}.",
        ),
        (
            '"Wait, {B}!" called {A}. "I was wrong. Come and sit with me."',
            "{A} thought about it. Then {A.he} {went} after {B}.",
            '{B} came back. "I found some {ingredient} and a {food2}," {B.he} {said}. "Take '
            "half of "
            'it, {A}."',
        ),
        (
            "They sat on the {spot} and ate together. {A} {=smiled}, and {B} {=smiled} as well.",
            '"It tastes better with two," {said} {A}. {B} {=smiled}.',
        ),
        ENDING,
    ),
    "build": (
        OPENING,
        FRIEND,
        (
            '"Let us make a {building1}," {said} {A}. "{=sure}," {said} {B}.',
            "{A} and {B} wanted to build a {building1} at the {place2}.",
            "{A} had drawn a plan of a {building1} and showed it to {B}.",
        ),
        (
            "{A} brought a {tool1}, and {B} brought a {tool2}.",
            "They borrowed a {tool1} from the {worker}. {B} carried it {adverb}.",
            "{B} fetched wood from the {place}, while {A} looked for a {tool1}.",
        ),
        (
            "But {A} wanted it to be {color}, and {B} wanted it to be {color}. They got {cross}.",
            "But with a loud {sound} everything fell down. {B} {=cried}.",
            "But it was too heavy, and neither {A} nor {B} could lift it.",
        ),
        (
            '"I will build my own!" shouted {B} and {went} away. Alone, {A} got nowhere.',
            '"If you hold it here," {said} {A}, "I can push from there." {B} tried it.',
            "{A} asked {A.his} {relative}, who said that {lesson}. {B} thought so, too.",
        ),
        (
            '{=then} {B} {said}, "I am sorry." {A} {=smiled}, and they began again.',
            "So they did it step by step: {A} with the {tool1}, and {B} with the {tool}.",
            "A {animal} helped them, too, and {B} told everybody what to do.",
        ),
        (
            "{=then} the {building1} was finished. It was {size} and {look}, and {A} {=smiled}.",
            "{=then} {A} and {B} stood in front of their {building1}. It was {look} and {color}.",
        ),
        ENDING,
    ),
    "newcomer": (
        OPENING,
        (
            "One {daytime} a {trait} {animal} named {B} moved into the {color} house.",
            "There was someone new in the {place2}. It was {B}, and {B.he} came from far away.",
        ),
        (
            "Nobody talked to {B}, who sat alone on the {spot1}.",
            "The others laughed at the {look} {clothes} that {B} wore.",
            "{B} was too {trait} to say a word and only played with a {toy}.",
        ),
        (
            "{A} thought that {B} must be {sad}.",
            '"Why does {B} never play {game}?" {asked} {A}.',
            "At first {A} only watched {B} from behind the {tree}.",
        ),
        (
            'So {A} went over. "Hello, I am {A}. Do you like {food1}?" {A.he} {asked}.',
            "{A} took a {toy1} and sat down beside {B}.",
            'The next {daytime}, {A} {said}, "Come and play {game} with me, {B}."',
        ),
        (
            "{B} {=smiled}. It turned out that {B.he} could {skill}.",
            "{B} showed {A} a {treasure1} from {B.his} old home.",
            '"Where I lived, there was a {size} {place}," {said} {B}, and {A} listened.',
        ),
        (
            "Soon the others came as well and wanted to know everything about {B}.",
            "Together {A} and {B} went to the {event}, and everybody danced.",
            "{A.His} {relative} gave a {event} for {B}, with {food} and {food}.",
        ),
        ENDING,
    ),
    "sick": (
        OPENING,
        FRIEND,
        (
            "One {daytime} {B} did not come to the {place1}. {A} waited and waited.",
            "But today {B} was ill and had to stay in bed. {A} {=cried}.",
            'The {relative} of {B} said to {A}, "{B} has a bad cold."',
        ),
        (
            "{A} wanted to do something for {B}. {A.He} picked a {color} {plant1}.",
            '"What would make {B} {glad}?" {A} {asked} the {worker1}. "Sleep," said the {worker1}.',
            "So {A} took a {container}, put a {food1} into it, and {went} to {B}.",
        ),
        (
            "On the way {A} met a {animal1}, who wanted to come along.",
            "The way was long, and there was a {weather} wind. But {A} did not turn back.",
            "{A} fell into a puddle, and the {clothes} got {look}. {A} went on all the same.",
        ),
        (
            "When {B} saw {A}, {B.he} sat up. {B} {=smiled}.",
            '"You came!" {said} {B}. "I was so {sad} without you, {A}."',
            "{A} read to {B} from a book about a {wild}, and they laughed a lot.",
        ),
        (
            "The next {daytime} {B} felt much better. {A} was {glad}.",
            "A week later {B} and {A} played {game} again.",
            "Then {A} got ill as well, and now it was {B} who brought {A.him} a {food}.",
        ),
        ENDING,
    ),
    "quarrel": (
        OPENING,
        FRIEND,
        (
            "But one {daytime} {A} and {B} both wanted the same {toy1}.",
            'But one {daytime} {B} {said}, "Your {clothes1} is ugly." That made {A} {cross}.',
            "But one {daytime} {A} forgot that {B} was waiting at the {place2}.",
        ),
        (
            '"You are not my friend any more!" shouted {A}. {B} {went} home.',
            '"Go away!" {said} {B}, and {A} did.',
            "They pulled and pulled, and with a {sound} {A} fell into a {spot}.",
        ),
        (
            "Now {A} sat in the {place} and {B} sat in the {place}, and both were {sad}.",
            "For three days {A} did not speak to {B}. Playing {game} alone was boring.",
            "{A} tried to play {game} alone, but that did not work.",
        ),
        (
            '{A.His} {relative} {said}, "Somebody has to begin." So {A} thought about {B}.',
            "{A} wrote a letter to {B} and put a {treasure1} into it.",
            "A {trait} {animal1} brought {A} a message: {B} was waiting under the {tree1}.",
        ),
        (
            'They met at the {place}. "I am sorry," {said} {A} and {B} at the same time.',
            "{A} and {B} looked at each other and began to laugh.",
            '"Let us never fight again," {said} {B}. "{=sure}," {said} {A}.',
        ),
        ENDING,
    ),
    "garden": (
        OPENING,
        (
            "{A} found a {size} seed and put it into the ground behind the {place2}.",
            "In spring {A} got a {plant1} seed from the {worker1}.",
        ),
        (
            "Every {daytime} {A} gave it water, but nothing happened.",
            "{A} waited one day and two days. {A.He} was {cross}.",
        ),
        (
            '"It will never grow," {said} {B}, {A.his} {trait} friend. {A} {=cried}.',
            "{B}, who lived next door, {asked} {A} what {A.he} was doing.",
            '"You have to be patient," {said} {B} to {A}.',
        ),
        (
            "Then it did not rain for weeks. {A} and {B} carried water from the {place3}.",
            "Then a {animal1} wanted to eat the leaves, but {B} drove it away with a {tool}.",
            "{A} built a {color} fence around it, and {B} held the {tool}.",
        ),
        (
            "{=then} a green leaf came out. {A} {=smiled} and called {B}.",
            '{=then} {B} saw a {color} bud. "Come quickly, {A}!" {B.he} called.',
        ),
        (
            "It grew and grew, until the {plant1} was as {size} as {A}.",
            "In summer {A} gave the first {plant1} to {B}.",
            "At the {event}, {A} got a {prize} for it and shared it with {B}.",
        ),
        ENDING,
    ),
}
"""Name of a plot -> its beats, in order; `phrases` says what is in braces."""
