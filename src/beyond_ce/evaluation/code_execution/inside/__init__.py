"""What runs inside the sandbox: standard library only, and no import from outside this package.

The sandbox shows this folder, and nothing else of the repository, at the same dotted name.
"""
