"""From the reports of finished runs to tables, claims and figures; experiment tracking."""
