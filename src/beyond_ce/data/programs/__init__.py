"""Data sets of programs: tasks of code generation and the tests that decide whether a program
solves them."""
