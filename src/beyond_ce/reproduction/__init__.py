"""From a table's id to its runs, its measurements and its files."""
