"""One class per measured table, named by the table's `measure`."""
