"""Plots in which something happens to the characters."""

from __future__ import annotations

from beyond_ce.data.stories.phrases import ENDING, FRIEND, OPENING, Beat

ADVENTURES: dict[str, tuple[Beat, ...]] = {
    "lost": (
        OPENING,
        (
            "{A.His} favorite thing was a {color1} {toy1}.",
            "{A} had a {look} {toy1} that {A.his} {relative} had given {A.him}.",
            "Everywhere {A.he} went, {A} carried a {size} {toy1}.",
        ),
        FRIEND,
        (
            "But one {daytime} the {toy1} was gone. {A} {=cried}.",
            "But then {A} could not find the {toy1} anywhere, and {A.he} {=cried}.",
            '"My {toy1} is lost!" cried {A}. {A.He} {looked} in the {container}, but it was empty.',
        ),
        (
            '"I will help you," {said} {B}. "Where did you have it last?"',
            '{B} {asked}, "Did you leave it at the {place2}?" But {A} did not know.',
            "{B} took {A} by the hand, and they {looked} under the {spot} and behind the {spot}.",
        ),
        (
            "They {went} to the {place2}. {=detail} {A} found only a {treasure}.",
            "First {A} {looked} in the {container}. Then {B} {looked} near the {tree}.",
            "They asked the {worker1}, but the {worker1} had not seen any {toy1}.",
        ),
        (
            "{=then} {B} heard a {sound}. A {animal} was playing with the {toy1}! {A} {=smiled}.",
            "{=then} {B} saw something {color1} behind the {spot}. It was the {toy1}, and {A} "
            "{=smiled}.",
            "{=then} {A.his} {relative} came with the {toy1}. It had been in the {container} all "
            "the time, and {A} {=smiled}.",
        ),
        (
            '"Thank you," {said} {A}. "Do you want to play with it, too?"',
            "{A} hugged {B} and let {B.him} play with the {toy1} first.",
            "",
        ),
        ENDING,
    ),
    "storm": (
        OPENING,
        FRIEND,
        (
            "They wanted to have a picnic at the {place2} and packed a {food1} and a {food}.",
            'When the sun came out, {B} said, "Let us go to the {place2}!" So {A} took a '
            "{container}.",
            "{A} and {B} {went} all the way to the {place2}. {=detail}",
        ),
        (
            "Suddenly the sky turned dark and there was a loud {sound}. {B} was {afraid}.",
            "But then it began to rain, and {A} got wet. The {clothes} did not help at all.",
            "But a {weather} wind came and blew away the {clothes} of {A}.",
        ),
        (
            '"Quick, under the {tree1}!" called {A}. They {went} there as fast as they could.',
            '{A} {said}, "I know a {spot} where it is dry." {B} followed {A.him} {adverb}.',
            '"What can we do?" {asked} {B}. {A} thought hard and pointed at the {place}.',
        ),
        (
            "There they sat close together, and {A} sang a song until {B} was no longer {afraid}.",
            "A {animal1} was there already and made room for {A} and {B}.",
            "Inside it was warm. {B} shared the {food1} with {A}, and they counted the drops.",
        ),
        (
            "{=then} the storm was over. {A} saw a rainbow above the {place}.",
            '{=then} the sun came back. "Look!" cried {B}, and {A} saw a rainbow.',
            "{=then} the {worker} came with a lantern and took {A} and {B} home.",
        ),
        ENDING,
    ),
    "hurt": (
        OPENING,
        (
            "On the way to the {place2}, {A} heard a {sound} behind the {spot}. {=detail}",
            "One {daytime} {A} {went} through the {place2} to get some {ingredient}.",
            "{A} was looking for a {plant} when something moved under the {tree}.",
        ),
        (
            "It was a {size} {animal2} named {B}, who had hurt {B.his} {hurt1}.",
            'There lay a {animal2}. "I am {B}," it {said}. "My {hurt1} hurts so much."',
            "A {animal2} called {B} was caught in a {tool}, and {B.his} {hurt1} was sore.",
        ),
        (
            '"You poor thing," {said} {A}. {A.He} took {A.his} {clothes} and wrapped it around the '
            "{hurt1}.",
            "{A} was {afraid} at first, but {B} looked so {sad} that {A.he} came nearer.",
            '"Do not be {afraid}," {said} {A} {adverb}, and {B} lay still.',
        ),
        (
            "{A} carried {B} home in a {container}. {A.His} {relative1} brought water and {food}.",
            "{A} ran to the {worker1}, who knew what to do and cleaned the {hurt1}.",
            "All night long {A} sat beside {B} and gave {B.him} warm milk.",
        ),
        (
            "Every {daytime} {B} got a little better, and {A} {=smiled}.",
            "After a week, {B} could jump again. {A} {=smiled}.",
            '"I can move my {hurt1}!" {said} {B} at last, and {A} {=smiled}.',
        ),
        (
            "When {A} had to let {B} go, {A.he} {=cried}.",
            'Then {B} said good-bye. "You are so {trait}, {A}," {B.he} whispered.',
            "One {daytime} {B} ran back to the {place2}, but {A} was not {sad}.",
            "",
        ),
        (
            "But the next {daytime} {B} was back, with a {treasure} for {A}.",
            "Later {A} got lost in the fog, and it was {B} who showed {A.him} the way.",
            "",
        ),
        ENDING,
    ),
    "contest": (
        OPENING,
        (
            "There was to be a {contest1} at the {place2}. The winner would get a {prize1}.",
            "{A} read about a {contest1} at the {place2}. The prize was a {prize1}.",
        ),
        (
            "{A} wanted to win, but {B} was the best at everything.",
            "{B}, a {trait} {animal}, wanted to win it as well.",
            '"I am going to win," {said} {B}. {A} said nothing.',
        ),
        (
            "{A} practiced with {A.his} {relative} every {daytime}, while {B} slept under a "
            "{tree}.",
            "On the great day {A} put on {A.his} {color} {clothes} and {went} to the {place2}.",
            "The {worker1} blew a whistle, and {A} and {B} began.",
        ),
        (
            "At first {B} was far ahead, and {A} {=cried}.",
            "Halfway, there was a {sound}. {B} had hurt {B.his} {part1}!",
            "Then {A} saw that {B} had lost a {treasure} and was looking for it.",
        ),
        (
            '"Are you all right?" {asked} {A}. {A.He} stopped and helped {B} up.',
            "{A} could have won now. But {A.he} turned around and went back to {B}.",
            "{A} did {A.his} best and did not look at the others, not even at {B}.",
        ),
        (
            "In the end both came in last. But the {worker} gave the {prize1} to {A} and {B} all "
            "the same.",
            "A {animal} won the {prize1}. {B} and {A} laughed about it for a long time.",
            '"You should have the {prize1}," {said} {B} to {A}, "because you are so {trait}."',
            "{A} won by a hair, and {B} was the first who clapped.",
        ),
        ENDING,
    ),
    "fear": (
        OPENING,
        (
            "But {A} was afraid of the dark. At every {sound}, {A.he} hid under the blanket.",
            "But {A} was afraid of the {wild1} that was said to live in the {place2}.",
            "But deep water made {A} {afraid}. {A.He} never went near the {place2}.",
        ),
        (
            "One {daytime} {A.his} friend {B} wanted to go to the {place2}.",
            "One {daytime} the {toy1} of {B} rolled into the {place2}, and {B} {=cried}.",
            "Then {A} heard a call for help. It was {B}, who was stuck behind a {spot}!",
        ),
        (
            "{A.His} heart beat fast. But {A} thought of {B} and took a {tool}.",
            '"Come with me, {A}," {said} {B}. "I will hold your hand."',
            "{A} counted to three and took one step, and then another one.",
        ),
        (
            "There was a {sound} in the {place2}. {B} and {A} stood still.",
            "Two {color} eyes looked at {A}. {=detail}",
            "It was dark and cold, and {A} wanted to run away.",
        ),
        (
            "But it was only a {animal1}, who was just as {afraid} as {A}.",
            "But nothing bad happened. {A} saw a {treasure1} that shone like the moon.",
            '"It is only a {animal1}," {said} {B} and laughed. So {A} laughed, too.',
        ),
        (
            "They went home together, and {A} felt very {glad}.",
            '"You are the bravest of all," {said} {B} to {A}.',
            "That night {A} slept without a light, and {B} was proud of {A.him}.",
        ),
        ENDING,
    ),
    "treasure": (
        OPENING,
        (
            "In the {place2}, {A} dug a hole with a {tool} and found a {look} {treasure1}.",
            "Under a {spot}, {A} found a {container1}. In it was a {treasure1}.",
            "{A.His} {relative} gave {A} a {look} {treasure1} and said that it was magic.",
        ),
        (
            "{A} showed it to {B}. {B} {=smiled}.",
            '"What is it?" {asked} {B}, who had come along. {A} did not know.',
            "{A} wanted to keep it, but {B} {said} that it might belong to somebody.",
        ),
        (
            "So {A} and {B} {went} from house to house and asked the {worker1} and the {worker2}.",
            "On the {treasure1} there was a {size} {animal1}. {B} knew what it meant.",
            "Then the {treasure1} began to glow. {A} was {afraid}, but {B} was not.",
        ),
        (
            "They followed a path to the {place3}. {=detail} There sat an old {animal1}.",
            "It led them to the {place3}, where {A} heard a {sound}.",
            '"We must go to the {place3}," {said} {A}. "{=sure}," {said} {B}.',
        ),
        (
            '"That is mine!" called the {worker}. "I lost it many years ago." {A} gave it back.',
            "{A} put the {treasure1} on a {spot}, as the {animal1} told {A.him}. {B} held a "
            "{tool}.",
            "There {A} and {B} found a {container} with a {food} in it.",
        ),
        (
            "As a reward, {A} and {B} got a {prize1}.",
            "{A} got nothing but a thank you, and still {A.he} {=smiled}.",
            "{B} wanted to sell it, but {A} said no. Some things are worth more than money.",
        ),
        ENDING,
    ),
    "lost_way": (
        OPENING,
        (
            "{A} followed a {color} butterfly into the {place2}, further and further.",
            "{A} was to bring {ingredient} to {A.his} {relative1} and took a short cut.",
            "While playing {game}, {A} did not look where {A.he} went.",
        ),
        (
            "Suddenly {A} did not know where {A.he} was. Every {tree1} looked the same.",
            "It got dark, and there was a {sound}. {A} {=cried}.",
            '"Where am I?" {asked} {A}, but nobody answered.',
        ),
        (
            'Then a {size} {animal2} came out of a {spot}. "My name is {B}," it {said}.',
            "Behind a {tree} sat {B}, a {trait} {animal2}, with a lantern.",
            '"Are you lost?" {asked} somebody. It was {B}, the {worker1}.',
        ),
        (
            '"I want to go home," {said} {A}. {B} {=smiled}. "Follow me, then."',
            "{A} was {afraid}, but {B} looked {trait}, so {A.he} told {B.him} everything.",
            '"First eat something," {said} {B} and gave {A} a {food}.',
        ),
        (
            "They {went} past a {look} {spot} and over a {place}. {B} knew every stone.",
            "{B} told {A} to look for the stars, and {A} learned how to find the north.",
            "On the way {A} and {B} sang, and the {weather} night was not so long.",
        ),
        (
            "{=then} {A} saw the light of the {place}. {A.His} {relative} was waiting.",
            "{=then} they were there. {A} wanted to thank {B}, but {B} was already gone.",
            "{=then} {A} saw the {color} roof of the house. {A} hugged {B}.",
        ),
        (
            "Since then {A} has always stayed on the path, and {B} got a {food} every week.",
            '"Come and visit me," {said} {A}, and {B} did.',
            "",
        ),
        ENDING,
    ),
}
"""Name of a plot -> its beats, in order; `phrases` says what is in braces."""
