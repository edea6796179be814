"""The report: a static site of tables, claims, figures and runs, which opens without a server."""
