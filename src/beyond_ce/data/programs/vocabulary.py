"""The operations of generated programs, as text: see `operations`, which reads it.

Each has four lines: its family with the types that it takes and gives, ways to say it, expressions
of x with the same value, and wrong ones. " ; " stands between alternatives. An operation with K
stands for one with each of the constants, and J is the constant after it.
"""

VOCABULARY = """\
add: number -> number
    add K ; plus K
    x + K ; K + x
    x - K ; x + J
subtract: number -> number
    minus K ; take K away
    x - K ; x + -K
    K - x ; x + K
multiply: number -> number
    times K ; multiply by K
    x * K ; K * x
    x + K ; x * J
square: number -> number
    square it ; times itself
    x * x ; x ** 2
    x + x ; x * 2
size: number -> number
    drop the sign ; absolute value
    abs(x) ; max(x, -x)
    -x ; max(x, 0)
negate: number -> number
    flip the sign ; negate it
    -x ; 0 - x
    abs(x) ; 1 - x
remainder: number -> number
    modulo K ; remainder by K
    x % K ; x - x // K * K
    x // K ; x % J
divide: number -> number
    divide by K ; how often K fits
    x // K ; (x - x % K) // K
    x % K ; int(x / K)
cap: number -> number
    at most K ; cap at K
    min(x, K) ; min(K, x)
    max(x, K) ; min(x, J)
floor: number -> number
    at least K ; raise to K
    max(x, K) ; max(K, x)
    min(x, K) ; max(x, J)
digit sum: number -> number
    sum of digits ; add up digits
    sum(map(int, str(abs(x)))) ; sum(int(d) for d in str(abs(x)))
    len(str(abs(x))) ; int(str(abs(x))[0])
digit count: number -> number
    count digits ; number of digits
    len(str(abs(x)))
    len(str(x)) ; len(str(abs(x))) - 1
digits: number -> list
    list digits ; split into digits
    [int(d) for d in str(abs(x))] ; list(map(int, str(abs(x))))
    [int(d) for d in str(abs(x))[::-1]] ; [int(d) for d in str(abs(x))[1:]]
count up: number -> list
    count up from 1 ; list 1 to it
    list(range(1, x + 1)) ; [i + 1 for i in range(x)]
    list(range(1, x)) ; list(range(x + 1))
count down: number -> list
    count down to 1 ; list it to 1
    list(range(x, 0, -1)) ; list(range(1, x + 1))[::-1]
    list(range(x, 1, -1)) ; list(range(x, -1, -1))
divisors: number -> list
    list divisors ; what divides it
    [d for d in range(1, x + 1) if x % d == 0]
    [d for d in range(1, x) if x % d == 0] ; [d for d in range(2, x + 1) if x % d == 0]
multiples: number -> list
    list K multiples ; 1 to K times it
    [x * i for i in range(1, J)] ; [x * (i + 1) for i in range(K)]
    [x * i for i in range(K)] ; [x * i for i in range(1, K)]
write: number -> text
    as text ; write it out
    str(x) ; f"{x}"
    str(abs(x))
binary: number -> text
    in binary ; write in base 2
    f"{x:b}" ; format(x, "b")
    f"{x:o}" ; f"{x:x}"
parity: number -> text
    odd or even ; name its parity
    "odd" if x % 2 else "even" ; "even" if x % 2 == 0 else "odd"
    "even" if x % 2 else "odd"
sort: list -> list
    sort ; put in order
    sorted(x) ; sorted(x)[:]
    sorted(x)[::-1] ; sorted(set(x))
sort down: list -> list
    sort down ; largest first
    sorted(x, reverse=True) ; sorted(x)[::-1]
    sorted(x) ; x[::-1]
reverse: list -> list
    reverse ; last to first
    x[::-1] ; list(reversed(x))
    sorted(x)[::-1] ; x[::-2]
unique: list -> list
    drop repeats ; each value once
    list(dict.fromkeys(x)) ; [v for i, v in enumerate(x) if v not in x[:i]]
    sorted(set(x)) ; [v for v in x if x.count(v) == 1]
even: list -> list
    keep even ; drop odd
    [v for v in x if v % 2 == 0] ; [v for v in x if not v % 2]
    [v for v in x if v % 2] ; x[::2]
odd: list -> list
    keep odd ; drop even
    [v for v in x if v % 2 == 1] ; [v for v in x if v % 2]
    [v for v in x if v % 2 == 0] ; x[1::2]
positive: list -> list
    keep positive ; drop below 1
    [v for v in x if v > 0] ; [v for v in x if v >= 1]
    [v for v in x if v >= 0] ; [v for v in x if v < 0]
negative: list -> list
    keep negative ; drop above -1
    [v for v in x if v < 0] ; [v for v in x if v <= -1]
    [v for v in x if v <= 0] ; [v for v in x if v > 0]
above: list -> list
    keep above K ; drop up to K
    [v for v in x if v > K] ; [v for v in x if v >= J]
    [v for v in x if v >= K] ; [v for v in x if v < K]
below: list -> list
    keep below K ; drop from K up
    [v for v in x if v < K] ; [v for v in x if K > v]
    [v for v in x if v <= K] ; [v for v in x if v > K]
multiples of: list -> list
    keep multiples of K ; keep what K divides
    [v for v in x if v % K == 0] ; [v for v in x if not v % K]
    [v for v in x if v % K] ; [v // K for v in x]
rest: list -> list
    drop first ; all but first
    x[1:]
    x[:-1] ; x[2:]
no last: list -> list
    drop last ; all but last
    x[:-1]
    x[1:] ; x[:-2]
head: list -> list
    first K ; cut after K
    x[:K]
    x[K:] ; x[:J]
tail: list -> list
    last K ; only the last K
    x[-K:]
    x[:-K] ; x[-J:]
skip: list -> list
    drop first K ; skip K
    x[K:]
    x[:K] ; x[J:]
every second: list -> list
    every second ; skip every other
    x[::2]
    x[1::2] ; x[::3]
add each: list -> list
    add K to each ; each plus K
    [v + K for v in x] ; [K + v for v in x]
    [v - K for v in x] ; [v + J for v in x]
take each: list -> list
    take K from each ; each minus K
    [v - K for v in x] ; [v + -K for v in x]
    [K - v for v in x] ; [v - J for v in x]
times each: list -> list
    multiply each by K ; each times K
    [v * K for v in x] ; [K * v for v in x]
    x * K ; [v * J for v in x]
square each: list -> list
    square each ; each times itself
    [v * v for v in x] ; [v ** 2 for v in x]
    [v + v for v in x] ; [v * 2 for v in x if v]
size each: list -> list
    drop signs ; absolute values
    [abs(v) for v in x] ; [max(v, -v) for v in x]
    [v for v in x if v > 0] ; [-v for v in x]
negate each: list -> list
    flip signs ; negate each
    [-v for v in x] ; [0 - v for v in x]
    [abs(v) for v in x] ; [v for v in x if v < 0]
remainder each: list -> list
    each modulo K ; remainders by K
    [v % K for v in x] ; [v - v // K * K for v in x]
    [v // K for v in x] ; [v % J for v in x]
running sums: list -> list
    running sums ; sums so far
    [sum(x[:i + 1]) for i in range(len(x))] ; [sum(x[:i]) for i in range(1, len(x) + 1)]
    [sum(x[:i]) for i in range(len(x))] ; [sum(x[i:]) for i in range(len(x))]
gaps: list -> list
    gaps ; differences
    [b - a for a, b in zip(x, x[1:])] ; [x[i + 1] - x[i] for i in range(len(x) - 1)]
    [a - b for a, b in zip(x, x[1:])] ; [abs(b - a) for a, b in zip(x, x[1:])]
mirror list: list -> list
    append reversed ; add mirror image
    x + x[::-1] ; [*x, *x[::-1]]
    x + x ; x[::-1] + x
places: list -> list
    add places ; add index to each
    [v + i for i, v in enumerate(x)] ; [x[i] + i for i in range(len(x))]
    [v + i + 1 for i, v in enumerate(x)] ; [v - i for i, v in enumerate(x)]
sum: list -> number
    sum ; add up
    sum(x) ; sum(v for v in x)
    len(x) ; sum(x[1:])
length: list -> number
    count ; how many
    len(x) ; sum(1 for v in x)
    len(set(x)) ; len(x) - 1
distinct: list -> number
    count distinct ; how many differ
    len(set(x)) ; len({v for v in x})
    len(x) ; len(set(x)) - 1
largest: list -> number
    largest or 0 ; maximum or 0
    max(x, default=0) ; max(x) if x else 0
    min(x, default=0) ; max([0, *x])
smallest: list -> number
    smallest or 0 ; minimum or 0
    min(x, default=0) ; min(x) if x else 0
    max(x, default=0) ; min([0, *x])
first: list -> number
    first or 0 ; pick first or 0
    x[0] if x else 0 ; sum(x[:1])
    x[-1] if x else 0 ; x[1] if len(x) > 1 else 0
last: list -> number
    last or 0 ; pick last or 0
    x[-1] if x else 0 ; sum(x[-1:])
    x[0] if x else 0 ; x[-2] if len(x) > 1 else 0
spread: list -> number
    spread ; largest minus smallest
    max(x) - min(x) if x else 0 ; max(x, default=0) - min(x, default=0)
    max(x, default=0) ; max([0, *x]) - min([0, *x])
count even: list -> number
    count even ; how many even
    sum(v % 2 == 0 for v in x) ; len([v for v in x if v % 2 == 0])
    sum(v % 2 for v in x) ; sum(v for v in x if v % 2 == 0)
count above: list -> number
    count above K ; how many above K
    sum(v > K for v in x) ; len([v for v in x if v > K])
    sum(v >= K for v in x) ; sum(v < K for v in x)
commas: list -> text
    join by commas ; comma between
    ",".join(map(str, x)) ; ",".join(str(v) for v in x)
    " ".join(map(str, x)) ; ",".join(map(str, x[1:]))
dashes: list -> text
    join by dashes ; dash between
    "-".join(map(str, x)) ; "-".join(str(v) for v in x)
    "".join(map(str, x)) ; "-".join(map(str, x[::-1]))
upper: text -> text
    upper case ; capitals
    x.upper() ; "".join(c.upper() for c in x)
    x.lower() ; x.title()
lower: text -> text
    lower case ; small letters
    x.lower() ; "".join(c.lower() for c in x)
    x.upper() ; x.swapcase()
swap case: text -> text
    swap case ; change case
    x.swapcase() ; "".join(c.swapcase() for c in x)
    x.upper() ; x.lower()
title: text -> text
    capitalise words ; capital at word starts
    x.title() ; " ".join(w.title() for w in x.split(" "))
    x.upper() ; x.capitalize()
reverse text: text -> text
    reverse text ; read backwards
    x[::-1] ; "".join(reversed(x))
    " ".join(x.split()[::-1]) ; x[-2::-1]
no vowels: text -> text
    drop vowels ; without vowels
    "".join(c for c in x if c not in "aeiou") ; "".join(c for c in x if "aeiou".find(c) < 0)
    "".join(c for c in x if c in "aeiou") ; "".join(c for c in x if c not in "aeio")
vowels: text -> text
    keep vowels ; only vowels
    "".join(c for c in x if c in "aeiou") ; "".join(c for c in x if "aeiou".find(c) > -1)
    "".join(c for c in x if c not in "aeiou") ; "".join(c for c in x if c in "aeio")
head text: text -> text
    first K letters ; cut after K letters
    x[:K]
    x[K:] ; x[:J]
tail text: text -> text
    last K letters ; only the last K letters
    x[-K:]
    x[:-K] ; x[-J:]
skip text: text -> text
    skip K letters ; drop first K letters
    x[K:]
    x[:K] ; x[J:]
sort text: text -> text
    sort letters ; letters in order
    "".join(sorted(x)) ; "".join(c for c in sorted(x))
    "".join(sorted(set(x))) ; "".join(sorted(x)[::-1])
unique text: text -> text
    each letter once ; drop repeated letters
    "".join(dict.fromkeys(x)) ; "".join(c for i, c in enumerate(x) if c not in x[:i])
    "".join(sorted(set(x))) ; "".join(c for c in x if x.count(c) == 1)
double letters: text -> text
    double letters ; each letter twice
    "".join(c + c for c in x) ; "".join(c * 2 for c in x)
    x + x ; "".join(c * 3 for c in x)
repeat: text -> text
    repeat text ; text twice
    x * 2 ; x + x
    "".join(c + c for c in x) ; x * 3
mirror: text -> text
    append it backwards ; text and mirror
    x + x[::-1] ; f"{x}{x[::-1]}"
    x + x ; x[::-1] + x
no spaces: text -> text
    drop spaces ; join words
    x.replace(" ", "") ; "".join(x.split())
    x.replace(" ", "", 1) ; x.strip()
underscores: text -> text
    underscores for spaces ; join words by _
    x.replace(" ", "_") ; "_".join(x.split(" "))
    x.replace(" ", "-") ; x.replace(" ", "_", 1)
a to o: text -> text
    a to o ; o for each a
    x.replace("a", "o") ; "o".join(x.split("a"))
    x.replace("o", "a") ; x.replace("a", "o", 1)
words back: text -> text
    words backwards ; last word first
    " ".join(x.split()[::-1]) ; " ".join(reversed(x.split()))
    x[::-1] ; " ".join(sorted(x.split()))
second letters: text -> text
    every second letter ; skip every other letter
    x[::2]
    x[1::2] ; x[::3]
text length: text -> number
    text length ; count letters
    len(x) ; sum(1 for c in x)
    len(x) - 1 ; len(x.split())
count a: text -> number
    count a ; how many a
    x.count("a") ; sum(c == "a" for c in x)
    x.find("a") ; x.count("e")
count vowels: text -> number
    count vowels ; how many vowels
    sum(c in "aeiou" for c in x) ; len([c for c in x if c in "aeiou"])
    sum(c not in "aeiou" for c in x) ; sum(c in "aeio" for c in x)
count words: text -> number
    count words ; how many words
    len(x.split()) ; sum(1 for w in x.split())
    x.count(" ") ; len(x)
distinct letters: text -> number
    count distinct letters ; how many letters differ
    len(set(x)) ; len({c for c in x})
    len(x) ; len(set(x)) - 1
word lengths: text -> list
    word lengths ; length of each word
    [len(w) for w in x.split()] ; list(map(len, x.split()))
    [len(w) for w in x.split()[1:]] ; [len(w) - 1 for w in x.split()]
vowel places: text -> list
    places of vowels ; where vowels are
    [i for i, c in enumerate(x) if c in "aeiou"] ; [i for i in range(len(x)) if x[i] in "aeiou"]
    [i + 1 for i, c in enumerate(x) if c in "aeiou"] ; [i for i, c in enumerate(x) if c in "aeio"]
"""
