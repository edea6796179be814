"""What measured tables measure: a class for each, named by the table's `measure`."""
